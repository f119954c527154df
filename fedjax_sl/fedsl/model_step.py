"""The server's step from the clients' mean to the next client model."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.federation.aggregation import choose, weighted_mean
from fedjax_sl.federation.aggregator import server_step
from fedjax_sl.fedsl.state import Context, FedSLState


def _none(leaf: Any) -> bool:
    return leaf is None


def _sent_by_some(mask: Any, used: jax.Array) -> Any:
    """Entries kept by at least one client in `used`, `[K]`."""

    def union(keep):
        if keep is None:
            # None keeps all: one update that is used sends every entry.
            return used.any()
        return (keep & used.reshape(-1, *[1] * (keep.ndim - 1))).any(axis=0)

    return jax.tree.map(union, mask, is_leaf=_none)


def _mean_start(context: Context, state: FedSLState, weights: jax.Array) -> Any:
    """The mean of the models that the clients of these weights started from."""
    config, anchor = context.config, state.anchor
    # Restored weights start from the anchor, and in a mean over keepers nobody counts
    # who started from 0.
    if config.restore or config.average_over == "keepers":
        return anchor
    # Who pruned a weight for good started from 0: that is no update of it.
    starts = jax.vmap(lambda mask: apply_mask(anchor, mask))(state.mask)
    total = weights.sum()
    # Of nobody the anchor is chosen below; the guard avoids 0 / 0.
    mean = weighted_mean(starts, weights / jnp.where(total > 0, total, 1.0))
    return choose(total > 0, mean, anchor)


def next_model(
    context: Context, state: FedSLState, mean: Any, weights: jax.Array
) -> tuple[Any, Any]:
    """Takes the server's step, and prunes for good what no client kept.

    Entries that no client kept, and all of them without a valid update, are unchanged,
    and so are their moments. If weights are not restored, entries pruned by all clients
    become 0 and stay 0.

    Args:
      context: the configuration.
      state: after the period's last step.
      mean: of the clients' parameters, leaves `[...]`.
      weights: `[K]` of the clients whose updates are used, 0 for others.

    Returns:
      The parameters, and the moments; None for the plain mean.
    """
    config, used = context.config, weights > 0
    sent, moments = _sent_by_some(state.mask, used), state.moments
    if moments is not None:
        start = _mean_start(context, state, weights)
        mean, moments = server_step(
            config.aggregator, moments, mean, start=start, sent=sent
        )
    if not config.restore:
        # Averages of keepers fall back to the anchor, which may not be 0 here; without
        # a valid update the anchor is to stay as it is.
        mean = apply_mask(mean, jax.tree.map(lambda keep: keep | ~used.any(), sent))
    return mean, moments
