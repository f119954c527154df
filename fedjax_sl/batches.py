"""A sweep whose points come in batches, as a search suggests them.

`sweep` compiles at every call, since it lets its programs go. What is here keeps them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from fedjax_sl.checks import check_integer
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.sweep import Program, groups, program_of, signature


class Batches:
    """Runs batches of points; each structure is compiled once, in whichever it comes.

    Its programs are kept as long as it is: one for each structure of the points.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        *,
        shared: tuple[Any, ...] = (),
        at_a_time: int | None = None,
        over_points: ClientMap | None = None,
    ):
        """Compiles nothing yet.

        Args:
          run: a pure function `(*shared, point)`, as of `sweep.results`.
          shared: arguments that all points share, such as the data.
          at_a_time: points in a call of a program, >= 1; what a batch lacks of them is
            computed as copies. One for each device by default.
          over_points: how the points of a call are mapped, as in `sweep.results`.

        Raises:
          ValueError: if `at_a_time` is out of range.
        """
        if at_a_time is not None:
            check_integer("at_a_time", at_a_time, 1)
        self._run, self._shared, self._over_points = run, shared, over_points
        # Whatever a batch holds: a program of another size would be compiled again.
        self._size = at_a_time or jax.device_count()
        self._programs: dict[Any, Program] = {}

    def __call__(self, points: Sequence[Any]) -> list[Any]:
        """Runs a batch.

        Args:
          points: pytrees of numbers, keys and arrays, such as configurations.

        Returns:
          The results on the host, in the order of the points.

        Raises:
          ValueError: if there are no points.
        """
        if not points:
            raise InputError("points: expected at least one, found none.")
        found: dict[int, Any] = {}
        for indices in groups(points):
            program = self._program(points[indices[0]])
            rows = program(self._shared, [points[index] for index in indices])
            found.update(zip(indices, rows, strict=True))
        return [found[index] for index in range(len(points))]

    def _program(self, point: Any) -> Program:
        kind = signature(point)
        if kind not in self._programs:
            self._programs[kind] = program_of(
                self._run, self._size, over_points=self._over_points
            )
        return self._programs[kind]
