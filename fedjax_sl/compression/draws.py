"""Uniform numbers for every entry of an array or a tree.

Drawn as one vector: over several axes, or leaf by leaf, the loops of the generator take
a CPU seconds to compile.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws from U[0, 1), the numbers of `jax.random.uniform(key, shape)`.

    Args:
      key: a key used here only.
      shape: `[...]`.

    Returns:
      `[...]` float32.
    """
    return jax.random.uniform(key, (math.prod(shape),)).reshape(shape)


def uniform_tree(key: jax.Array, tree: Any) -> Any:
    """Draws from U[0, 1) for every entry of a tree.

    Args:
      key: a key used here only.
      tree: leaves `[...]`.

    Returns:
      Leaves `[...]` float32.
    """
    leaves, structure = jax.tree.flatten(tree)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    parts = jnp.split(uniform(key, (ends[-1],)), ends[:-1])
    shaped = [x.reshape(leaf.shape) for x, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
