"""A state as arrays by name, which is how it is stored, and back."""

import hashlib
from typing import Any

import jax
import numpy as np

from fedjax_sl.errors import InputError


Arrays = dict[str, np.ndarray]


class Unusable(InputError):
    """A checkpoint cannot be gone on from; the message says why."""


def _by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _field(name: str) -> str:
    return name.partition("/")[0]


def stored(state: Any) -> Arrays:
    """Copies by name; an array without entries has nothing to be stored."""
    arrays = {name: np.array(leaf) for name, leaf in _by_name(state).items()}
    return {name: array for name, array in arrays.items() if array.size}


def digest(arrays: Arrays) -> str:
    """A checksum of names and contents."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).data)
    return found.hexdigest()


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"


def as_like(like: Any, arrays: Arrays) -> Any:
    """The arrays in the structure of a state, or of some of its fields.

    Raises:
      Unusable: if they are not of that structure.
    """
    wanted = _by_name(like)
    empty = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in wanted.items()
        if not leaf.size
    }
    fields = {_field(name) for name in wanted}
    asked_for = {name: x for name, x in arrays.items() if _field(name) in fields}
    found = asked_for | empty
    for name in sorted(wanted.keys() | found.keys()):
        kinds = [_kind(x[name]) if name in x else "nothing" for x in (wanted, found)]
        if kinds[0] != kinds[1]:
            raise Unusable(f"{name}: expected {kinds[0]}, found {kinds[1]}.")
    return jax.tree.unflatten(jax.tree.structure(like), [found[n] for n in wanted])
