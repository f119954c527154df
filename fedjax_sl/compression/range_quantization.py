"""Uniform quantisation on a grid between the extreme entries of a tensor."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression import draws
from fedjax_sl.compression.rounding import Rounding, rebuilt, rounded


def _on_range(
    draw: jax.Array, x: jax.Array, levels: Any, rounding: Rounding
) -> jax.Array:
    check_integer("levels", levels, 1)
    low, high = x.min(), x.max()
    step = (high - low) / jnp.asarray(levels, jnp.float32)
    # The guard avoids 0 / 0 for a constant tensor.
    # The clip is for rounding, which may put the largest entry above s.
    at = jnp.clip((x - low) / jnp.where(step > 0, step, 1.0), 0.0, levels)
    return low + step * rebuilt(rounded(draw, at, rounding), levels, rounding)


def reconstruct_range_tree(
    key: jax.Array,
    tree: Any,
    *,
    levels: Any,
    exact: Any = False,
    rounding: Rounding = "stochastic",
) -> Any:
    """Rounds each tensor on a grid between its extreme entries.

    `low + (high - low) k_i / s`; if rounding is stochastic, unbiased, with an expected
    squared error of at most `M (high - low)^2 / (4 s^2)`. In contrast to a norm, zeros
    need not stay zero.

    Args:
      key: a key used here only.
      tree: leaves `[...]` float32.
      levels: s, 2^b - 1 for b bits, or a tree of them; may be traced.
      exact: [] bool or a tree of them, may be traced: return the tensors unchanged, bit
        for bit.
      rounding: of each entry.

    Returns:
      The same structure.
    """
    check_choice("rounding", rounding, Rounding)

    def reconstruct_leaf(draw, x, levels, exact):
        return jnp.where(exact, x, _on_range(draw, x, levels, rounding))

    return jax.tree.map(
        reconstruct_leaf,
        draws.uniform_tree(key, tree),
        tree,
        *(jax.tree.broadcast(each, tree) for each in (levels, exact)),
    )
