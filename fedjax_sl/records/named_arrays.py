"""Converts a state to arrays by name, the stored form, and back."""

import hashlib
from typing import Any

import jax
import numpy as np

from fedjax_sl.errors import InputError


Arrays = dict[str, np.ndarray]


class Unusable(InputError):
    """A checkpoint cannot be resumed from; the message says why."""


def by_name(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, such as `params/conv/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _field(name: str) -> str:
    return name.partition("/")[0]


def stored(state: Any) -> Arrays:
    """Returns copies of the arrays by name, without empty ones."""
    # `np.asarray` would share memory with the device on a CPU.
    arrays = {name: np.array(leaf) for name, leaf in by_name(state).items()}
    return {name: array for name, array in arrays.items() if array.size}


def digest(arrays: Arrays) -> str:
    """Returns a checksum of names and contents."""
    found = hashlib.blake2b(digest_size=16)
    # The order of a restored dict may differ.
    for name in sorted(arrays):
        found.update(name.encode())
        # Shapes and dtypes are compared by `as_like`.
        found.update(np.ascontiguousarray(arrays[name]).data)
    return found.hexdigest()


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"


def as_like(like: Any, arrays: Arrays) -> Any:
    """Puts arrays into the structure of a state, or of some of its fields.

    Raises:
      Unusable: if a name, shape or dtype differs.
    """
    wanted = by_name(like)
    # Empty arrays are not stored.
    empty = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in wanted.items()
        if not leaf.size
    }
    fields = {_field(name) for name in wanted}
    chosen = {name: x for name, x in arrays.items() if _field(name) in fields}
    found = chosen | empty
    for name in sorted(wanted.keys() | found.keys()):
        kinds = [_kind(x[name]) if name in x else "nothing" for x in (wanted, found)]
        if kinds[0] != kinds[1]:
            raise Unusable(f"{name}: expected {kinds[0]}, found {kinds[1]}.")
    return jax.tree.unflatten(jax.tree.structure(like), [found[n] for n in wanted])
