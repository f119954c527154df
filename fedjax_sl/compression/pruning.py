"""Pruning in four separate steps: scores (`compression.scores`), ratio, mask, apply.

A tree of parameters is one client's. Scores and masks have its structure, with None
for leaves that are never scored or never pruned. Single weights are pruned, or whole
filters with all that goes with them (`compression.groups`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.checks import check_choice, check_number
from fedjax_sl.compression.groups import Group, chain, group_scores, leaf_masks
from fedjax_sl.compression.scores import Scores


Mask = Any
Granularity = Literal["filter", "weight"]
Scope = Literal["layer", "global"]
Shape = Literal["cubic", "linear", "constant"]

WORD = 32


# JAX takes None for a tree without leaves; in a mask it is a leaf that keeps all.
def _none(leaf: Any) -> bool:
    return leaf is None


def _ordered(scores: jax.Array) -> jax.Array:
    """Maps floats to unsigned integers of the same order."""
    bits = lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    # Negative floats grow in magnitude with their bits, so these are inverted.
    top = jnp.uint32(1 << (WORD - 1))
    return jnp.where(bits >= top, ~bits, bits | top)


# Called outside a program, its loop would be compiled anew each time.
@partial(jax.jit, inline=True)
def lowest(scores: jax.Array, count: jax.Array) -> jax.Array:
    """Marks exactly the `count` lowest scores; ties are broken by index.

    A binary search over the bits of the threshold replaces sorting: 32 passes for any
    size, and the same program for any count.

    Args:
      scores: `[M]`.
      count: [] int32 in [0, M], may be traced.

    Returns:
      `[M]` bool.
    """
    chex.assert_rank([scores, count], [1, 0])
    words = _ordered(scores)

    # Invariant: fewer than `count` words lie below the threshold.
    def refine(bit, threshold):
        trial = threshold | (jnp.uint32(1) << (WORD - 1 - bit).astype(jnp.uint32))
        return jnp.where((words < trial).sum() < count, trial, threshold)

    threshold = lax.fori_loop(0, WORD, refine, jnp.uint32(0))
    below = words < threshold
    # Of equal scores only as many go as are missing, so that the count is exact.
    ties = words == threshold
    missing = count - below.sum()
    return below | (ties & (jnp.cumsum(ties) <= missing))


def number_pruned(size: int, ratio: Any) -> jax.Array:
    """Computes floor(ratio * M) without loss to rounding; the ratio may be traced."""
    exact = jnp.asarray(ratio, jnp.float32) * size
    # The float32 nearest 0.29 is less than 0.29, but 0.29 of 100 must be 29.
    return jnp.floor(exact * (1 + jnp.finfo(jnp.float32).eps)).astype(jnp.int32)


def keep_mask(
    scores: Scores,
    ratio: Any,
    *,
    granularity: Granularity = "filter",
    scope: Scope = "layer",
    groups: Sequence[Group] | None = None,
) -> Mask:
    """Keeps all but the floor(ratio * M) lowest scores.

    Args:
      scores: of one client.
      ratio: rho in [0, 1), may be traced.
      granularity: prune single weights, or whole filters with all that goes with them.
      scope: M and the ranking per kernel or group ("layer") or over all of them
        ("global"); globally a layer may lose all its filters.
      groups: of filters; those of `compression.groups.chain` if not given.

    Returns:
      Bool leaves. Weights: the kernel's shape, None at other leaves. Filters: size 1
      along axes of which nothing is pruned, such as `[1, 1, Cin, Cout]` at a kernel;
      inputs that read pruned filters receive no gradient, and are pruned too.

    Raises:
      ValueError: if a plain `ratio` lies outside [0, 1).
    """
    check_choice("granularity", granularity, Granularity)
    check_choice("scope", scope, Scope)
    check_number("ratio", ratio, lambda v: 0 <= v < 1, "in [0, 1)")
    if granularity == "weight":
        kernels, structure = jax.tree.flatten(scores)
        return jax.tree.unflatten(structure, _keep_in_scope(kernels, ratio, scope))
    groups = chain(scores) if groups is None else groups
    kept = _keep_in_scope(group_scores(groups, scores), ratio, scope)
    return leaf_masks(groups, kept, scores)


def _keep_in_scope(
    ranked: list[jax.Array], ratio: Any, scope: Scope
) -> list[jax.Array]:
    together = [[scores] for scores in ranked] if scope == "layer" else [ranked]
    return [keep for scores in together if scores for keep in _keep(scores, ratio)]


def _keep(scores: list[jax.Array], ratio: Any) -> list[jax.Array]:
    """Ranks several arrays together; returns a mask for each."""
    flat = jnp.concatenate([x.reshape(-1) for x in scores])
    keep = ~lowest(flat, number_pruned(flat.size, ratio))
    ends = [sum(x.size for x in scores[: n + 1]) for n in range(len(scores) - 1)]
    parts = jnp.split(keep, ends)
    return [part.reshape(x.shape) for part, x in zip(parts, scores, strict=True)]


def apply_mask(tree: Any, mask: Mask) -> Any:
    """M * x: exact zeros where the mask prunes, everything else unchanged."""

    def mask_leaf(keep, leaf):
        # A select, not a product: 0 * nan is nan.
        return leaf if keep is None else jnp.where(_over(keep, leaf), leaf, 0)

    return jax.tree.map(mask_leaf, mask, tree, is_leaf=_none)


def _over(keep: jax.Array, leaf: jax.Array) -> jax.Array:
    return jnp.broadcast_to(keep, leaf.shape)


def kept_in_each(mask: Mask, tree: Any) -> Any:
    """Counts the entries of each leaf that the mask keeps, a tree of [] int32."""

    def count_leaf(keep, leaf):
        if keep is None:
            return jnp.int32(leaf.size)
        # An axis of size 1 stands for all entries along it.
        repeats = leaf.size // keep.size
        return keep.sum() * repeats

    return jax.tree.map(count_leaf, mask, tree, is_leaf=_none)


def kept(mask: Mask, tree: Any) -> jax.Array:
    """Counts the entries of the tree that the mask keeps, [] int32."""
    return jnp.stack(jax.tree.leaves(kept_in_each(mask, tree))).sum()


def ratio_at(
    step: Any, final_ratio: Any, *, start: Any, end: Any, shape: Shape = "cubic"
) -> jax.Array:
    """Computes rho_t, the pruning ratio between 0 and rho_f at step t.

    `rho_f (1 - (1 - tau)^3)` with tau = clip((t - t_0) / (t_1 - t_0), 0, 1) (Zhu and
    Gupta, 2017; the curve for arXiv 2412.06414 is reconstructed), or `rho_f tau`, or
    rho_f throughout.

    Args:
      step: t.
      final_ratio: rho_f.
      start: t_0.
      end: t_1; if not after t_0, the ratio is rho_f from t_0 on.
      shape: "cubic", "linear" or "constant".

    Returns:
      float32, of the shape of `final_ratio`.
    """
    check_choice("shape", shape, Shape)
    check_number("final_ratio", final_ratio, lambda v: 0 <= v < 1, "in [0, 1)")
    final_ratio = jnp.asarray(final_ratio, jnp.float32)
    if shape == "constant":
        return final_ratio
    step, start, end = (jnp.asarray(v, jnp.float32) for v in (step, start, end))
    length = end - start
    # The inner select avoids 0 / 0 for a ramp of length 0, which is a step at t_0.
    progress = jnp.where(
        length > 0, (step - start) / jnp.where(length > 0, length, 1.0), step >= start
    )
    progress = jnp.clip(progress, 0.0, 1.0)
    return final_ratio * (1 - (1 - progress) ** 3 if shape == "cubic" else progress)
