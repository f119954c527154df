"""A run that is asked to stop ends in good order."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """A run was stopped by a signal, all that it had done being kept."""

    def __init__(self, number: int):
        """By the signal of this number."""
        super().__init__(f"stopped by signal {number}")
        self.number = number


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """While the block runs, SIGTERM and Ctrl-C are kept rather than obeyed.

    A second one ends the process at once, as a signal usually does.

    Args:
      say: is told of the first.

    Yields:
      A function that returns the number of the signal that came, 0 if none has.
    """
    came = 0

    def keep(number, _):
        nonlocal came
        came = number
        signal.signal(number, signal.SIG_DFL)
        say("stopping after this round; once more to stop at once")

    before = {n: signal.signal(n, keep) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
