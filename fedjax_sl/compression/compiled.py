"""Loops that Numba compiles when the first of them is called."""

import functools
import threading
from collections.abc import Callable
from typing import Any


_LOCK = threading.RLock()


class compiled:
    """A decorator of loops on the host: importing Numba takes a second.

    Numba knows the functions that a loop calls by their global names, which therefore
    become compiled ones when the loop does.
    """

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        self._function = function
        self._ready: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls the compiled loop."""
        # Threads may call one first: only one of them replaces the names.
        with _LOCK:
            ready = self._dispatcher()
        return ready(*arguments, **named)

    def _dispatcher(self) -> Any:
        """Numba's function, which compiles itself for the types it is called with."""
        if self._ready is None:
            import numba

            # Set before the names below: a loop that calls itself is one of them.
            self._ready = numba.njit(cache=True, nogil=True)(self._function)
            names = self._function.__globals__
            for name, found in list(names.items()):
                if isinstance(found, compiled):
                    names[name] = found._dispatcher()
        return self._ready
