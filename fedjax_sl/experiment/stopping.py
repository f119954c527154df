"""A run that is asked to stop ends in good order."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedjax_sl.experiment.signals import end, obeying


ONE_REQUEST = 0.5
"""Seconds in which signals are one request: `timeout` sends its own twice."""


class Stopped(Exception):
    """A run was stopped by a signal, all that it had done being kept."""

    def __init__(self, number: int):
        """By the signal of this number."""
        super().__init__(f"stopped by signal {number}")
        self.number = number


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """While the block runs, SIGTERM and Ctrl-C are kept rather than obeyed.

    A second one ends the process at once, even while a program is compiled.

    Args:
      say: is told of the first.

    Yields:
      A function that returns the number of the signal that came, 0 if none has.
    """
    came, since = 0, 0.0

    def keep(number):
        nonlocal came, since
        if not came:
            came, since = number, time.monotonic()
            say("stopping after this round; once more to stop at once")
        elif time.monotonic() - since > ONE_REQUEST:
            end(number)

    with obeying(keep):
        yield lambda: came
