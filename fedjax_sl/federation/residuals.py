"""Residuals: what the messages of each client left out, kept by its identity."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers
from fedjax_sl.errors import InputError
from fedjax_sl.federation.aggregation import broadcast


def check_feedback(updates: CompressorConfig, noise_multiplier: Any) -> None:
    """Rejects noise with feedback: privacy is accounted for without memory of clients.

    Args:
      updates: compressor of the messages.
      noise_multiplier: z; None without noise.

    Raises:
      ValueError: naming both options.
    """
    if noise_multiplier is not None and updates.feedback != "none":
        raise InputError(
            f"updates.feedback={updates.feedback!r} with noise_multiplier: expected "
            "'none', as a residual carries rounds in which a client was drawn into "
            "later ones, for which `privacy` does not account."
        )


def first_residuals(
    updates: CompressorConfig, tree: Any, num_clients: int | None
) -> Any:
    """Returns the residuals before the first message, one of each leaf and client.

    Args:
      updates: of the messages; whether they have feedback.
      tree: what a client sends, leaves `[...]`.
      num_clients: N; None where no client has a residual.

    Returns:
      Leaves `[N, ...]`; None without feedback.

    Raises:
      ValueError: if there is feedback and N is not given.
    """
    if not updates.active or updates.feedback == "none":
        return None
    if num_clients is None:
        raise InputError(
            "num_clients=None: expected the number of clients, as updates.feedback="
            f"{updates.feedback!r} keeps a residual of each."
        )
    # Of any client: their numbers may differ, what they keep does not.
    one = jax.tree.map(lambda x: x[0], updates.of_clients(jnp.zeros(1, int)))
    return broadcast(init_layers(one.compressor(), tree), num_clients)
