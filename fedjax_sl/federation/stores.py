"""Where what is kept of every client lies: in the device's memory or in the host's.

Of a store on the host only the rows of a cohort are ever on the device: they are looked
up and written by the host, inside the compiled program.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import compute_on

from fedjax_sl.checks import check_choice
from fedjax_sl.config_base import StoreName


HOST = "pinned_host"
"""The host's memory, as the sharding of an array names it."""


class Store(NamedTuple):
    """Leaves `[N, ...]`, of which a round takes the rows of its cohort and puts them.

    Attributes:
      place: `place(tree)`, the tree where the store keeps it.
      take: `take(tree, client_id)` -> rows `[K, ...]`, on the device.
      put: `put(tree, client_id, rows)`, the tree with these rows in their places. A
        cohort is drawn without replacement: none is written twice.
    """

    place: Callable[[Any], Any]
    take: Callable[[Any, jax.Array], Any]
    put: Callable[[Any, jax.Array, Any], Any]


def _take(tree: Any, client_id: jax.Array) -> Any:
    return jax.tree.map(lambda of_all: of_all[client_id], tree)


def _put(tree: Any, client_id: jax.Array, rows: Any) -> Any:
    return jax.tree.map(lambda of_all, own: of_all.at[client_id].set(own), tree, rows)


def _to_host(tree: Any) -> Any:
    return jax.device_put(tree, jax.memory.Space.Host)


# Since JAX 0.11.2 it has the name of what was a context and is no more.
_compute_on: Callable = getattr(compute_on, "compute_on2", compute_on.compute_on)


def _by_host(function: Callable) -> Callable:
    """The function of arrays in the host's memory, computed there."""
    host = jax.memory.Space.Host
    # There, so that no leaf `[N, ...]` is ever copied to the device.
    return _compute_on(function, compute_type="device_host", out_memory_spaces=host)


def _take_from_host(tree: Any, client_id: jax.Array) -> Any:
    rows = _by_host(_take)(tree, _to_host(client_id))
    return jax.device_put(rows, jax.memory.Space.Device)


def _put_on_host(tree: Any, client_id: jax.Array, rows: Any) -> Any:
    return _by_host(_put)(tree, _to_host(client_id), _to_host(rows))


on_device = Store(lambda tree: tree, _take, _put)
"""In the memory of each device."""

on_host = Store(_to_host, _take_from_host, _put_on_host)
"""In the memory of the host, with a copy for each device."""


def placed(state: Any, on_host: Sequence[str]) -> Any:
    """Puts fields of a state into the memory of the host, inside a compiled program.

    Args:
      state: a `NamedTuple`, such as one read from a checkpoint.
      on_host: names of these fields, as in `Algorithm.on_host`.

    Returns:
      The state, as a round takes it.
    """
    return state._replace(**{name: _to_host(getattr(state, name)) for name in on_host})


def store_named(name: StoreName) -> Store:
    """Returns the store of that name.

    Raises:
      ValueError: if the name is unknown.
    """
    check_choice("residuals", name, StoreName)
    return {"device": on_device, "host": on_host}[name]
