"""Many runs as few compiled programs: one for each structure among their settings."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.callable_module import CallableModule
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients


def _signature(point: Any) -> Any:
    """What two points must share to share a program: structure, shapes and dtypes."""
    leaves, structure = jax.tree.flatten(point)
    return structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)


def stack(*leaves: Any) -> Any:
    """Numbers and keys by JAX, as it types them, arrays by NumPy.

    JAX would compile a program for every shape of an array, and never let it go.
    """
    first = leaves[0]
    if jnp.ndim(first) and not jnp.issubdtype(first.dtype, jax.dtypes.extended):
        return np.stack(leaves)
    return jnp.stack([jnp.asarray(leaf) for leaf in leaves])


def groups(points: Sequence[Any]) -> list[list[int]]:
    """The places of the points that share a program."""
    groups: dict[Any, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(_signature(point), []).append(place)
    return list(groups.values())


def results(
    run: Callable[..., Any],
    points: Sequence[Any],
    *,
    shared: tuple[Any, ...] = (),
    at_a_time: int | None = None,
    over_points: clients.ClientMap | None = None,
) -> Iterator[tuple[int, Any]]:
    """Runs every point of a sweep, compiling once for each structure.

    The numbers of a configuration are traced, so that points which differ in a rate, a
    ratio, a number of bits or a seed are one program; those which differ in what is
    static (a cut, a granularity, a cohort's size) are grouped, a program for each.

    Args:
      run: a pure function `(*shared, point)`, such as one that calls `simulate`.
      points: pytrees of numbers, keys and arrays; configurations are.
      shared: what all points have, such as the data: as arguments, large arrays are
        not part of the program.
      at_a_time: points in a call of the program, whose results come together; by
        default all of a structure. The last call is filled up with copies.
      over_points: how the points of a call are mapped. By default they are spread over
        all devices, each of which takes one after another; on an accelerator, which
        gains from more at once, `mapping_named("chunks", ...)` takes as many as fit.
        What `run` maps inside must then stay on one device.

    Yields:
      The place of a point among `points` and its result on the host, as they come:
      structure by structure, in the order of the points within each.
    """
    for places in groups(points):
        size = min(at_a_time or len(places), len(places))
        over = over_points or clients.sharded(clients.mesh(size, "sweep"))
        program = jax.jit(lambda shared, here, over=over: over.map(run, *shared)(here))
        for first in range(0, len(places), size):
            here = places[first : first + size]
            filled = here + here[:1] * (size - len(here))
            stacked = jax.tree.map(stack, *(points[place] for place in filled))
            found = jax.device_get(program(shared, stacked))
            for row, place in enumerate(here):
                yield place, jax.tree.map(lambda x, row=row: x[row], found)


def sweep(
    run: Callable[[Any], Any],
    points: Sequence[Any],
    *,
    over_points: clients.ClientMap | None = None,
) -> list[Any]:
    """All results of a sweep, see `results`.

    Args:
      run: a pure function of one point, such as one that calls `simulate`.
      points: pytrees of numbers, keys and arrays; configurations are.
      over_points: how the points of a structure are mapped.

    Returns:
      The results on the host, in the order of the points.

    Raises:
      ValueError: if there are no points.
    """
    if not points:
        raise InputError("points: expected at least one, found none.")
    found = dict(results(run, points, over_points=over_points))
    return [found[place] for place in range(len(points))]


sys.modules[__name__].__class__ = CallableModule
