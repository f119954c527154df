"""Many runs as few compiled programs: one for each structure among their settings."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.federation import clients


def _signature(point: Any) -> Any:
    """What two points must share to share a program: structure, shapes and dtypes."""
    leaves, structure = jax.tree.flatten(point)
    return structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)


def _stack(*leaves: Any) -> jax.Array:
    return jnp.stack([jnp.asarray(leaf) for leaf in leaves])


def sweep(
    run: Callable[[Any], Any],
    points: Sequence[Any],
    *,
    over_points: clients.ClientMap | None = None,
) -> list[Any]:
    """Runs every point of a sweep, compiling once for each structure.

    The numbers of a configuration are traced, so that points which differ in a rate, a
    ratio, a number of bits or a seed are one program; those which differ in what is
    static (a cut, a granularity, a cohort's size) are grouped, a program for each.

    Args:
      run: a pure function of one point, such as one that calls `simulate`.
      points: pytrees of numbers, keys and arrays; configurations are.
      over_points: how the points of a group are mapped; by default they are spread over
        all devices, each of which takes one after another. What `run` maps inside must
        then stay on one device.

    Returns:
      The results on the host, in the order of the points.

    Raises:
      ValueError: if there are no points.
    """
    if not points:
        raise ValueError("points: expected at least one, found none.")
    groups: dict[Any, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(_signature(point), []).append(place)
    results: list[Any] = [None] * len(points)
    for places in groups.values():
        over = over_points or clients.sharded(clients.mesh(len(places), "sweep"))
        stacked = jax.tree.map(_stack, *(points[place] for place in places))
        found = jax.device_get(jax.jit(over.map(run))(stacked))
        for row, place in enumerate(places):
            results[place] = jax.tree.map(lambda x, row=row: x[row], found)
    return results
