"""Shards the clients of a cohort over devices.

A sharded mapping is another mapping with a `spread`: each device maps over its own
clients as the inner one does, and the devices sum their terms.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, PartitionSpec

from fedjax_sl.federation.clients import ClientMap, scan


AXIS = "clients"


def _sum_over_devices(term: Any, axis: str) -> Any:
    """Sums over devices, with one all-reduce for each dtype."""
    # On a CPU, an all-reduce costs more than copying a model, so leaves are joined.
    leaves, structure = jax.tree.flatten(term)
    # Joined across dtypes, integers would pass through float32 and lose digits.
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        indices = [n for n, leaf in enumerate(leaves) if leaf.dtype == dtype]
        joined, split = ravel_pytree([leaves[n] for n in indices])
        for n, leaf in zip(indices, split(jax.lax.psum(joined, axis)), strict=True):
            leaves[n] = leaf
    return jax.tree.unflatten(structure, leaves)


def _summed_over_devices(function, axis, shared, stacked):
    """Runs the function on one device, and sums its term over all devices."""
    term, own = function(shared, stacked)
    return _sum_over_devices(term, axis), own


def sharded(over: Mesh, inner: ClientMap = scan) -> ClientMap:
    """Shards the clients over the devices of a mesh; `inner` maps each device's own.

    Shared arguments are replicated. Do not differentiate through the mapping with
    respect to them: the gradient would be a sum over devices. On a CPU, call
    `cpu.prepare_cpu` first: XLA ends a process where a device waits for 40 seconds.
    """
    (axis,) = over.axis_names

    def spread(function, shared, stacked):
        everywhere = jax.shard_map(
            partial(_summed_over_devices, function, axis),
            mesh=over,
            in_specs=(PartitionSpec(), PartitionSpec(axis)),
            out_specs=(PartitionSpec(), PartitionSpec(axis)),
            # Else gradients of shared arguments would be summed over devices.
            check_vma=False,
        )
        return everywhere(shared, stacked)

    return replace(inner, spread=spread, devices=over.size)


def pmap(devices: Sequence[Any], inner: ClientMap = scan) -> ClientMap:
    """Same as `sharded`, but by `jax.pmap`, with one program per device."""

    def spread(function, shared, stacked):
        count = len(devices)
        split = jax.tree.map(
            lambda x: x.reshape(count, len(x) // count, *x.shape[1:]), stacked
        )
        here = partial(_summed_over_devices, function, AXIS)
        everywhere = jax.pmap(here, AXIS, in_axes=(None, 0), devices=devices)
        term, own = everywhere(shared, split)
        whole = jax.tree.map(lambda x: x.reshape(count * x.shape[1], *x.shape[2:]), own)
        # Every device has the same sum.
        return jax.tree.map(lambda x: x[0], term), whole

    return replace(inner, spread=spread, devices=len(devices))


def mesh(size: int, axis: str = AXIS) -> Mesh:
    """Builds a mesh of one axis over devices of all processes.

    Args:
      size: number of clients, or of the items that the axis is named after.
      axis: its name.

    Returns:
      A mesh of ceil(size / processes) devices of each process, or all that it has.
    """
    # Devices beyond the number of clients would compute nothing but padding.
    most = -(-size // jax.process_count())
    devices = [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process_index=process)[:most]
    ]
    # Auto axes: by default they are explicit, and shardings become part of types.
    return jax.make_mesh(
        (len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices
    )
