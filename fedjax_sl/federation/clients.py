"""How a function of one client is mapped over the clients of a cohort.

A mapping takes a function and what all clients share, its first arguments, and returns
the function of the others stacked, the client axis first. Methods receive a mapping and
never know which.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec


ClientMap = Callable[..., Callable[..., Any]]
"""`over_clients(function, *shared)(*stacked)`: `function(*shared, *one)` for each."""

AXIS = "clients"


def client_keys(key: jax.Array, client_id: jax.Array, purpose: int) -> jax.Array:
    """One key per client, by who it is and what the key is for."""
    base = jax.random.fold_in(key, purpose)
    return jax.vmap(lambda one: jax.random.fold_in(base, one))(client_id)


def scan(function: Callable[..., Any], *shared: Any) -> Callable[..., Any]:
    """One client after another: the least memory, and the fastest on a CPU core."""

    def mapped(*arguments):
        return jax.lax.map(lambda one: function(*shared, *one), arguments)

    return mapped


def vmap(function: Callable[..., Any], *shared: Any) -> Callable[..., Any]:
    """All clients at once."""
    return jax.vmap(partial(function, *shared))


def mesh(cohort_size: int) -> Mesh:
    """As many of this process's devices as divide the cohort evenly, in one axis."""
    devices = jax.local_devices()
    count = max(d for d in range(1, len(devices) + 1) if cohort_size % d == 0)
    return jax.make_mesh(
        (count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices[:count]
    )


def sharded(over: Mesh, inner: ClientMap = scan) -> ClientMap:
    """The clients spread over the devices of a mesh, `inner` mapping those of each.

    Each device has what is shared whole. The mapping must not be differentiated in it:
    the gradient of something shared would be a sum over devices.
    """

    def apply(function, *shared):
        def here(shared, stacked):
            return inner(function, *shared)(*stacked)

        everywhere = jax.shard_map(
            here,
            mesh=over,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        return lambda *stacked: everywhere(shared, stacked)

    return apply
