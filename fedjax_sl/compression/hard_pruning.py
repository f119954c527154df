"""Hard pruning: a weight that became 0 stays 0.

No state is needed: an entry of the averaged kernel is 0 if all clients pruned it, and
otherwise only by chance. Kernels that begin at 0, as some residual branches do, would
stay there: they want weights that are restored.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.groups import Group, alive, leaf_masks
from fedjax_sl.compression.pruning import Mask
from fedjax_sl.compression.scores import Scores


def _none(leaf: Any) -> bool:
    return leaf is None


def zeros_first(
    scores: Scores, params: Any, groups: Sequence[Group] | None = None
) -> Scores:
    """Ranks weights that are already 0 below all others.

    Args:
      scores: >= 0, None at leaves that are never pruned.
      params: the weights that they score, leaves `[...]`.
      groups: of filters, which are ranked by their sums; None for single weights.

    Returns:
      The same structure; -inf at weights, or at filters, that are 0.
    """
    if groups is None:
        living = jax.tree.map(lambda leaf: leaf != 0, params)
    else:
        # Of what a filter reads some may be 0: only its own zeros count.
        own = [group._replace(others=()) for group in groups]
        living = leaf_masks(own, alive(own, params), params)

    def rank_zeros_first(score, lives, leaf):
        if score is None or lives is None:
            return score
        # Scores are summed over a filter: -inf only if all of it is 0.
        score = jnp.where(leaf != 0, score, 0.0)
        return jnp.where(jnp.broadcast_to(lives, leaf.shape), score, -jnp.inf)

    return jax.tree.map(rank_zeros_first, scores, living, params, is_leaf=_none)


def without_zeros(
    mask: Mask, params: Any, groups: Sequence[Group] | None = None
) -> Mask:
    """Prunes the weights that are already 0 from a mask.

    Args:
      mask: as from `keep_mask`.
      params: the weights that it masks, leaves `[...]`.
      groups: of filters; None for single weights.

    Returns:
      The same structure and shapes: kernel entries that are 0 are pruned. If a filter
      is entirely 0, so is all that goes with it.
    """
    kernels = None
    if groups is not None:
        living = leaf_masks(groups, alive(groups, params), params)
        mask = jax.tree.map(
            lambda keep, lives: None if keep is None else keep & lives,
            mask,
            living,
            is_leaf=_none,
        )
        kernels = {member.path for group in groups for member in group.kernels}

    def prune_zeros(path, keep, leaf):
        names = tuple(part.key for part in path)
        if keep is None or (kernels is not None and names not in kernels):
            return keep
        # An axis of size 1 stands for all its entries, which live if any does.
        shared = tuple(axis for axis, size in enumerate(keep.shape) if size == 1)
        return keep & (leaf != 0).any(axis=shared, keepdims=True)

    return jax.tree_util.tree_map_with_path(prune_zeros, mask, params, is_leaf=_none)
