"""Hard pruning: a weight that became 0 stays 0.

No state is needed: an entry of the averaged kernel is 0 if all clients pruned it, and
otherwise only by chance.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice
from fedjax_sl.compression.pruning import Granularity, Mask
from fedjax_sl.compression.scores import Scores


def zeros_first(scores: Scores, params: Any, granularity: Granularity) -> Scores:
    """Ranks weights that are already 0 below all others.

    Args:
      scores: >= 0, None at leaves that are never pruned.
      params: the weights that they score, leaves `[...]`.
      granularity: whether single weights are ranked, or whole filters by their sums.

    Returns:
      The same structure; -inf at weights, or at filters, that are 0.
    """
    check_choice("granularity", granularity, Granularity)

    def rank_zeros_first(score, leaf):
        if score is None:
            return None
        alive = leaf != 0
        if granularity == "filter":
            # Scores are summed over a filter: -inf only if all of it is 0.
            score = jnp.where(alive, score, 0.0)
            alive = alive.any(axis=tuple(range(leaf.ndim - 1)), keepdims=True)
        return jnp.where(jnp.broadcast_to(alive, leaf.shape), score, -jnp.inf)

    return jax.tree.map(rank_zeros_first, scores, params, is_leaf=lambda x: x is None)


def without_zeros(mask: Mask, params: Any) -> Mask:
    """Prunes the weights that are already 0 from a mask.

    Args:
      mask: as from `keep_mask`.
      params: the weights that it masks, leaves `[...]`.

    Returns:
      The same structure and shapes: kernel entries that are 0 are pruned. If a filter
      is entirely 0, so are its entries in the other masked leaves of its unit.
    """
    return {name: _living(mask[name], params[name]) for name in mask}


def _living(mask: Mask, params: Any) -> Mask:
    """Prunes the zeros of one unit's kernel from all masks of the unit."""
    (alive,) = (leaf != 0 for leaf in jax.tree.leaves(params) if leaf.ndim > 1)

    def prune_zeros(keep):
        # An axis of size 1 stands for all its entries, which live if any does.
        whole = (1,) * (alive.ndim - keep.ndim) + keep.shape
        shared = tuple(axis for axis, size in enumerate(whole) if size == 1)
        return keep & alive.any(axis=shared, keepdims=True).reshape(keep.shape)

    return jax.tree.map(prune_zeros, mask)
