"""Pruning in four separate steps: scores (`compression.scores`), ratio, mask, apply.

A tree of parameters is one client's. Its top-level entries are *units* in network
order (e.g. a convolution with its norm); the kernel of a unit is its leaf of two or
more axes, the last of which indexes the filters. Scores and masks have the structure of
the parameters, with None for leaves that are never scored or never pruned.
"""

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.checks import check_choice, check_number
from fedjax_sl.compression.scores import Scores
from fedjax_sl.errors import InputError


Mask = Any
Granularity = Literal["filter", "weight"]
Scope = Literal["layer", "global"]
Shape = Literal["cubic", "linear", "constant"]

WORD = 32


def _none(leaf: Any) -> bool:
    return leaf is None


def _ordered(scores: jax.Array) -> jax.Array:
    """Maps floats to unsigned integers of the same order."""
    bits = lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    # Negative floats grow in magnitude with their bits, so these are inverted.
    top = jnp.uint32(1 << (WORD - 1))
    return jnp.where(bits >= top, ~bits, bits | top)


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
    ties = words == threshold
    missing = count - below.sum()
    return (below | (ties & (jnp.cumsum(ties) <= missing))) & (count > 0)


def number_pruned(size: int, ratio: Any) -> jax.Array:
    """Computes floor(ratio * M) without loss to rounding; the ratio may be traced."""
    exact = jnp.asarray(ratio, jnp.float32) * size
    # The float32 nearest 0.29 is less than 0.29, but 0.29 of 100 must be 29.
    return jnp.floor(exact * (1 + jnp.finfo(jnp.float32).eps)).astype(jnp.int32)


def _per_filter(scores: jax.Array) -> jax.Array:
    """Sums the scores over each filter."""
    # Not the square of a sum of g w, which is always 0 if a norm follows the
    # convolution: the loss then ignores a filter's scale.
    return scores.sum(axis=tuple(range(scores.ndim - 1)))


def keep_mask(
    scores: Scores,
    ratio: Any,
    *,
    granularity: Granularity = "filter",
    scope: Scope = "layer",
) -> Mask:
    """Keeps all but the floor(ratio * M) lowest scores.

    Args:
      scores: of one client.
      ratio: rho in [0, 1), may be traced.
      granularity: prune single weights, or whole filters with their bias and norm.
      scope: M and the ranking per kernel ("layer") or over all of them ("global");
        globally a layer may lose all its filters.

    Returns:
      Bool leaves. Weights: the kernel's shape, None at other leaves. Filters:
      `[1, ..., Cout]` at the kernel, `[Cout]` at the other leaves of its unit.

    Raises:
      ValueError: if a plain `ratio` lies outside [0, 1).
    """
    check_choice("granularity", granularity, Granularity)
    check_choice("scope", scope, Scope)
    check_number("ratio", ratio, lambda v: 0 <= v < 1, "in [0, 1)")
    kernels, structure = jax.tree.flatten(scores)
    ranked = kernels
    if granularity == "filter":
        ranked = [_per_filter(kernel) for kernel in kernels]
    groups = [[kernel] for kernel in ranked] if scope == "layer" else [ranked]
    kept_parts = [part for group in groups for part in _keep(group, ratio)]
    mask = jax.tree.unflatten(structure, kept_parts)
    return mask if granularity == "weight" else _whole_units(mask, scores)


def _keep(group: list[jax.Array], ratio: Any) -> list[jax.Array]:
    """Ranks the arrays of a group together; returns a mask for each."""
    flat = jnp.concatenate([x.reshape(-1) for x in group])
    keep = ~lowest(flat, number_pruned(flat.size, ratio))
    ends = [sum(x.size for x in group[: n + 1]) for n in range(len(group) - 1)]
    parts = jnp.split(keep, ends)
    return [part.reshape(x.shape) for part, x in zip(parts, group, strict=True)]


def _whole_units(filters: Mask, scores: Scores) -> Mask:
    """Gives the filters' mask `[Cout]` to every leaf of their unit."""

    def unit(mask, score):
        kernels = jax.tree.leaves(mask)
        if len(kernels) != 1:
            raise InputError(f"A unit holds {len(kernels)} kernels: expected one.")
        (mask,) = kernels
        return jax.tree.map(
            lambda s: mask if s is None else mask.reshape(*[1] * (s.ndim - 1), -1),
            score,
            is_leaf=_none,
        )

    return {name: unit(filters[name], scores[name]) for name in filters}


def couple_inputs(mask: Mask) -> Mask:
    """Prunes the kernel entries whose input channel the previous unit pruned.

    These entries read only zeros: they receive no gradient and are neither trained nor
    sent.

    Args:
      mask: filter mask of a chain of convolutions, units in network order.

    Returns:
      The same, kernels `[1, ..., Cin, Cout]`; the first unit's is unchanged.
    """
    coupled, inputs = {}, None
    # Names of units must sort in network order, as those of `Stages` do.
    for name in sorted(mask):

        def take(leaf, inputs=inputs):
            if leaf.ndim < 2 or inputs is None:
                return leaf
            return leaf & inputs.reshape(*[1] * (leaf.ndim - 2), -1, 1)

        coupled[name] = jax.tree.map(take, mask[name])
        # From `mask`: a kernel of `coupled` has an axis of inputs, too.
        inputs = next(x for x in jax.tree.leaves(mask[name]) if x.ndim > 1).reshape(-1)
    return coupled


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
