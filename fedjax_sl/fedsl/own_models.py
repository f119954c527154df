"""Clients that keep their own models: parallel split learning (PSL).

Clients step in parallel, the server steps once on all their activations, and the
clients' halves are never averaged (Jeon and Kim, "Privacy-sensitive parallel split
learning", ICOIN 2020; Joshi et al., "Splitfed learning without client-side
synchronization", 2021). A model belongs to a client, not to a slot of the cohort.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.state import Context, FedSLState
from fedjax_sl.models.split import SplitParams


def check_everyone(config: FedSLConfig, num_clients: int | None) -> None:
    """Rejects a cohort of some clients, as the models of the others would be lost."""
    everyone = num_clients in (None, config.cohort_size)
    if config.client_update == "local" and not everyone:
        raise InputError(
            f"cohort_size={config.cohort_size}: expected {num_clients}, all clients, "
            "with client_update='local', where each keeps a model of its own."
        )


def nobody_yet(config: FedSLConfig) -> jax.Array | None:
    """Marks the clients that have received a model; None if models are averaged."""
    # K = N here, as `check_everyone` has it: slots and ids are as many.
    own = config.client_update == "local"
    return jnp.zeros((config.cohort_size,), bool) if own else None


def now_received(state: FedSLState, there: jax.Array) -> jax.Array | None:
    """Marks the clients that have received a model, after those who are `there`.

    Args:
      state: of this round.
      there: `[K]` bool, present when a period starts.

    Returns:
      `[N]` bool; None if models are averaged.
    """
    if state.received is None:
        return None
    before = state.received[state.client_id]
    # Not only `there`: it is False between two starts, and a model stays received.
    return state.received.at[state.client_id].set(before | there)


def predict_each(
    context: Context, state: FedSLState, images: jax.Array, *, pruned: bool = False
) -> jax.Array:
    """Computes the logits of each client's own model with the common server.

    Args:
      context: model and mapping.
      state: of the run.
      images: `[B, H, W, Ch]`.
      pruned: whether each model is under the mask of its client in this period.

    Returns:
      `[K, B, C]`, without dropout.
    """

    def of_client(server: Any, images: jax.Array, client: Any, mask: Any) -> jax.Array:
        params = apply_mask(client["params"], mask) if pruned else client["params"]
        own = SplitParams({**client, "params": params}, server)
        return context.model.predict(own, images)

    over = context.over_clients.on_one_device()
    return over.map(of_client, state.server, images)(state.client, state.mask)
