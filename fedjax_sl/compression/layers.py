"""Units: the layers that are kept or skipped, quantised and coded.

A leaf of a variable tree has a path such as `block1/conv/kernel`. By "module" a unit
holds the leaves of one module (`block1/conv`), by "block" those of one top-level entry
(`block1`), by "tensor" a single leaf.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from fedjax_sl.checks import check_choice, check_integer, check_number


Unit = Literal["module", "block", "tensor"]


def unit_of(path: tuple[str, ...], by: Unit) -> str:
    """Returns the name of the unit that a leaf belongs to."""
    check_choice("by", by, Unit)
    # A leaf at the top has no module: it is a unit of its own.
    kept = {"module": path[:-1] or path, "block": path[:1], "tensor": path}[by]
    return "/".join(kept)


def leaves_of(tree: Any) -> dict[tuple[str, ...], Any]:
    """Returns the leaves of nested dicts by path."""
    return flatten_dict(tree)  # type: ignore[return-value]


def unit_names(tree: Any, *, by: Unit) -> list[str]:
    """Returns the units of a tree of parameters or statistics, sorted."""
    return sorted({unit_of(path, by) for path in leaves_of(tree)})


def _members(tree: Any, by: Unit) -> dict[str, list[tuple[str, ...]]]:
    """The leaves of each unit, kernels before biases."""
    members: dict[str, list[tuple[str, ...]]] = {}
    # Sorted: `to_units` and `from_units` have to agree, whatever the order of a dict.
    for path in sorted(leaves_of(tree), reverse=True):
        members.setdefault(unit_of(path, by), []).append(path)
    return members


def to_units(tree: Any, *, by: Unit) -> dict[str, jax.Array]:
    """Concatenates the leaves of each unit to one vector.

    Args:
      tree: nested dicts of arrays.
      by: what a unit is.

    Returns:
      `{name: [M_l]}`.
    """
    leaves = leaves_of(tree)
    return {
        name: jnp.concatenate([leaves[path].reshape(-1) for path in paths])
        for name, paths in _members(tree, by).items()
    }


def from_units(units: dict[str, jax.Array], like: Any, *, by: Unit) -> Any:
    """Inverts `to_units`, for a tree of the structure of `like`."""
    leaves, filled = leaves_of(like), {}
    for name, paths in _members(like, by).items():
        start = 0
        for path in paths:
            end = start + leaves[path].size
            filled[path] = units[name][start:end].reshape(leaves[path].shape)
            start = end
    return unflatten_dict(filled)


def per_leaf(values: dict[str, Any], like: Any, *, by: Unit) -> Any:
    """Replaces each leaf of `like` by the value of its unit."""
    return unflatten_dict({path: values[unit_of(path, by)] for path in leaves_of(like)})


def draw_layers(key: jax.Array, num_layers: int, keep_probability: Any) -> jax.Array:
    """Keeps each layer with probability p, `[L]` bool (Entropy 2023, 25, 1205)."""
    check_integer("num_layers", num_layers, 0)
    check_number(
        "keep_probability", keep_probability, lambda v: 0 <= v <= 1, "in [0, 1]"
    )
    # Draws are in [0, 1): at p = 1 every layer is kept.
    return jax.random.uniform(key, (num_layers,)) < keep_probability
