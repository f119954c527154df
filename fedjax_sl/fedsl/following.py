"""What stays with a client when a new cohort is drawn, whatever its slot."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.fedsl.running_scores import none_yet, of_period
from fedjax_sl.fedsl.state import Context, FedSLState


def follow_clients(
    context: Context, state: FedSLState, client_id: jax.Array
) -> FedSLState:
    """Follows clients that stay to their slots in a new cohort; others begin afresh.

    With them go their optimiser states and scores, and their models if these are their
    own.

    Args:
      context: the optimiser, and whether models are averaged.
      state: of the cohort before.
      client_id: `[K]`, the new cohort.

    Returns:
      The state with what belongs to the clients in the slots of the new cohort.
    """
    # A client that stays may have another slot in the new cohort.
    same = client_id[:, None] == state.client_id[None, :]
    # The argmax of a row without a match is 0: a slot is read only where `stays`.
    stays, slot = same.any(axis=1), same.argmax(axis=1)
    params = state.client["params"]
    # Of any rate, which is no part of the state.
    fresh_opt = jax.vmap(context.client_optimizer(0.0).init)(params)
    running = scored = None
    if state.running is not None:
        end = partial(of_period, context.config)
        # Before slots move: the sums are of the masks of the period that ends.
        running, scored = jax.vmap(end)(state.running, state.mask), none_yet(params)
    # Models that are averaged are equal, wherever a client goes.
    own = state.client if context.config.client_update == "local" else None
    # Own models have no fresh form: before the first period a slot holds what its
    # client begins with, and after it everybody stays.
    held, fresh = (state.client_opt, running, own), (fresh_opt, scored, own)

    def choose(old, new):
        where = stays.reshape(-1, *[1] * (old.ndim - 1))
        return jnp.where(where, old[slot], new)

    opt, running, own = jax.tree.map(choose, held, fresh)
    return state._replace(
        client=state.client if own is None else own,
        client_opt=opt,
        running=running,
        client_id=client_id,
    )
