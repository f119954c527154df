"""Compiles programs in a thread, before they are called."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax


def shaped(shape: Any, shardings: Any) -> Any:
    """Returns the shapes of arrays that will lie as these shardings say."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shape,
        shardings,
    )


class Ahead:
    """A program that can be compiled while others are traced, compiled or computed.

    XLA compiles in part on one core, and without Python's lock.
    """

    def __init__(self, program: Callable[..., Any]):
        """Compiles nothing yet.

        Args:
          program: jitted.
        """
        self._program = program
        self._thread: threading.Thread | None = None
        self._then: Ahead | None = None

    def begin(
        self,
        arguments: Sequence[Any],
        *,
        then: "tuple[Ahead, Sequence[Any]] | None" = None,
    ) -> None:
        """Starts to compile it, unless that was begun before.

        Args:
          arguments: that it will be called with, or their shapes.
          then: another one, and its arguments, that is begun once this is lowered.
        """
        if self._thread is not None:
            return

        def compile():
            # What is wrong is raised where it is called.
            with contextlib.suppress(Exception):
                lowered = self._program.lower(*arguments)
                if then is not None:
                    self._then, its = then
                    self._then.begin(its)
                lowered.compile()

        # No daemon: the interpreter must not end under XLA's feet.
        self._thread = threading.Thread(target=compile)
        self._thread.start()

    def __call__(self, *arguments: Any) -> Any:
        """Calls it, once it and the one begun after it are compiled.

        Calls are timed: what is still compiled would slow the first ones down.
        """
        self._wait()
        return self._program(*arguments)

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._then is not None:
            self._then._wait()
