"""Ctrl-C and SIGTERM, obeyed by a thread of their own; a run stops in good order.

A handler written in Python waits until the main thread returns from compiled code, and
the exception that it raises is lost wherever Python ignores exceptions, as in JAX's
callback of the garbage collector, or becomes an ImportError in an extension's import.
A thread that the operating system's handler wakes is neither late nor ignored.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


NUMBERS = (signal.SIGINT, signal.SIGTERM)

SHOW_CURSOR = b"\x1b[?25h\n"
"""A terminal's, which a progress bar hides."""


def end(number: int) -> None:
    """Ends the process at once, with the exit code that shells have for a signal."""
    if os.isatty(sys.__stdout__.fileno() if sys.__stdout__ else -1):
        os.write(sys.__stdout__.fileno(), SHOW_CURSOR)  # type: ignore[union-attr]
    os._exit(128 + number)


@contextmanager
def obeying(act: Callable[[int], None]) -> Iterator[None]:
    """While the block runs, a thread acts on each SIGINT and SIGTERM.

    A signal that is ignored, as by a shell for what it starts in the background, stays
    ignored. Blocks may be nested: the inner one acts.

    Args:
      act: is told the signal's number.

    Raises:
      ValueError: outside the main thread.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)

    def watch():
        while came := os.read(receiver, 1):
            act(came[0])

    heeded = [n for n in NUMBERS if signal.getsignal(n) is not signal.SIG_IGN]
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    waked = signal.set_wakeup_fd(sender)
    before = {n: signal.signal(n, lambda *_: None) for n in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waked)
        os.close(sender)
        watcher.join()
        os.close(receiver)


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
