"""Many runs as few compiled programs: one per structure of their configurations."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.callable_module import CallableModule
from fedjax_sl.checks import check_integer
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.federation.devices import mesh, sharded


Program = Callable[[tuple[Any, ...], Sequence[Any]], Iterator[Any]]
"""`program(shared, points)` runs any number of points of one structure, and yields
their results on the host when available."""


def signature(point: Any) -> Any:
    """Returns a point's structure, shapes and dtypes: equal ones share a program."""
    # By dtype: the plain numbers 1 and 1.0 make two programs.
    leaves, structure = jax.tree.flatten(point)
    return structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)


def stack(*leaves: Any) -> Any:
    """Stacks numbers and keys by JAX, with its dtypes, and arrays by NumPy."""
    first = leaves[0]
    # JAX would compile a program for every shape of an array, and keep it for ever.
    if jnp.ndim(first) and not jnp.issubdtype(first.dtype, jax.dtypes.extended):
        return np.stack(leaves)
    return jnp.stack([jnp.asarray(leaf) for leaf in leaves])


def groups(points: Sequence[Any]) -> list[list[int]]:
    """Groups the indices of points that share a program."""
    groups: dict[Any, list[int]] = {}
    for index, point in enumerate(points):
        groups.setdefault(signature(point), []).append(index)
    return list(groups.values())


def program_of(
    run: Callable[..., Any], size: int, *, over_points: ClientMap | None = None
) -> Program:
    """Returns the program of a structure, compiled when it is first called.

    Args:
      run: a pure function `(*shared, point)`.
      size: points in a call; the last call is filled up with copies.
      over_points: how they are mapped; sharded over all devices by default.

    Returns:
      The program, of points that have the same signature.
    """
    over = over_points or sharded(mesh(size, "sweep"))
    mapped = jax.jit(lambda shared, here: over.map(run, *shared)(here))

    def program(shared, points):
        for first in range(0, len(points), size):
            here = points[first : first + size]
            # Every call has the same shapes, so that the program compiles once.
            filled = [*here, *here[:1] * (size - len(here))]
            # One transfer for a call, not one for each point.
            found = jax.device_get(mapped(shared, jax.tree.map(stack, *filled)))
            yield from (
                jax.tree.map(lambda x, n=n: x[n], found) for n in range(len(here))
            )

    return program


def results(
    run: Callable[..., Any],
    points: Sequence[Any],
    *,
    shared: tuple[Any, ...] = (),
    at_a_time: int | None = None,
    over_points: ClientMap | None = None,
) -> Iterator[tuple[int, Any]]:
    """Runs every point of a sweep, compiling once for each structure.

    The numbers of a configuration are traced, so that points that differ in a rate, a
    ratio, a number of bits or a seed share a program; points that differ in a static
    field (a cut, a granularity, a cohort size) are grouped, with a program for each.

    Args:
      run: a pure function `(*shared, point)`, such as one that calls `simulate`.
      points: pytrees of numbers, keys and arrays, such as configurations.
      shared: arguments that all points share, such as the data; large arrays passed
        here are not constants of the program.
      at_a_time: points per call of the program, whose results are returned together; by
        default all of a structure. The last call is padded with copies.
      over_points: how the points of a call are mapped. By default they are sharded over
        all devices, each of which runs its points sequentially; on an accelerator,
        which gains from batching, `mapping_named("chunks", ...)` runs as many as fit.
        Mappings inside `run` must then stay on one device.

    Raises:
      ValueError: if `at_a_time` is out of range.

    Yields:
      The index of a point in `points` and its result on the host, when available:
      structure by structure, in the order of the points within each.
    """
    if at_a_time is not None:
        check_integer("at_a_time", at_a_time, 1)
    for indices in groups(points):
        size = min(at_a_time or len(indices), len(indices))
        # The name is bound anew, so that the structure before lets its program go.
        program = program_of(run, size, over_points=over_points)
        found = program(shared, [points[index] for index in indices])
        yield from zip(indices, found, strict=True)


def sweep(
    run: Callable[[Any], Any],
    points: Sequence[Any],
    *,
    over_points: ClientMap | None = None,
) -> list[Any]:
    """Returns all results of a sweep, see `results`.

    Args:
      run: a pure function of one point, such as one that calls `simulate`.
      points: pytrees of numbers, keys and arrays, such as configurations.
      over_points: how the points of a structure are mapped.

    Returns:
      The results on the host, in the order of the points.

    Raises:
      ValueError: if there are no points.
    """
    if not points:
        raise InputError("points: expected at least one, found none.")
    found = dict(results(run, points, over_points=over_points))
    # `results` goes structure by structure.
    return [found[index] for index in range(len(points))]


# `fedjax_sl.sweep` is this module and its function.
sys.modules[__name__].__class__ = CallableModule
