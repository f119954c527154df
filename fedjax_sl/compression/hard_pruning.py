"""Hard pruning: a weight that became 0 is never revived.

The weights themselves tell: an entry of the averaged kernel is 0 where everyone had
pruned it, and nowhere else but by chance. So nothing has to be remembered.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice
from fedjax_sl.compression.pruning import Granularity, Mask, Scores


def zeros_first(scores: Scores, params: Any, granularity: Granularity) -> Scores:
    """Scores that rank what is 0 already below everything else.

    Args:
      scores: >= 0, None at leaves that are never pruned.
      params: the weights that they score, leaves `[...]`.
      granularity: whether single weights are ranked, or whole filters by their sums.

    Returns:
      The same structure; -inf at weights, or at filters, that are 0.
    """
    check_choice("granularity", granularity, Granularity)

    def one(score, leaf):
        if score is None:
            return None
        alive = leaf != 0
        if granularity == "filter":
            score = jnp.where(alive, score, 0.0)
            alive = alive.any(axis=tuple(range(leaf.ndim - 1)), keepdims=True)
        return jnp.where(jnp.broadcast_to(alive, leaf.shape), score, -jnp.inf)

    return jax.tree.map(one, scores, params, is_leaf=lambda x: x is None)


def without_zeros(mask: Mask, params: Any) -> Mask:
    """The mask, without what is 0 already.

    Args:
      mask: as from `keep_mask`.
      params: the weights that it masks, leaves `[...]`.

    Returns:
      The same structure and shapes: kernel entries that are 0 are pruned, and of a
      filter that holds nothing else the other leaves of its unit, if they are masked.
    """
    return {name: _living(mask[name], params[name]) for name in mask}


def _living(mask: Mask, params: Any) -> Mask:
    """Of one unit, whose kernel says what lives."""
    (alive,) = (leaf != 0 for leaf in jax.tree.leaves(params) if leaf.ndim > 1)

    def one(keep):
        whole = (1,) * (alive.ndim - keep.ndim) + keep.shape
        shared = tuple(axis for axis, size in enumerate(whole) if size == 1)
        return keep & alive.any(axis=shared, keepdims=True).reshape(keep.shape)

    return jax.tree.map(one, mask)
