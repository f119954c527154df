"""Handles Ctrl-C and SIGTERM in a thread, so that a run stops in good order.

A Python signal handler waits until the main thread returns from compiled code. An
exception that it raises is lost wherever Python ignores exceptions, as in JAX's garbage
collector callback, or turns into an ImportError while an extension is imported. A
thread that the C-level handler wakes has neither problem.
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
"""Escape sequence that shows the cursor, which a progress bar hides."""


def end(number: int) -> None:
    """Ends the process at once, with the exit code that shells use for a signal."""
    # Past `sys.stdout`: a live bar replaces it, and `os._exit` flushes nothing.
    if os.isatty(sys.__stdout__.fileno() if sys.__stdout__ else -1):
        os.write(sys.__stdout__.fileno(), SHOW_CURSOR)  # type: ignore[union-attr]
    # `sys.exit` in a thread would end this thread alone.
    os._exit(128 + number)


@contextmanager
def obeying(act: Callable[[int], None]) -> Iterator[None]:
    """Calls a function in a thread on each SIGINT and SIGTERM while the block runs.

    An ignored signal stays ignored, as a shell sets it for background processes. Blocks
    may be nested: the inner one acts.

    Args:
      act: called with the number of the signal.

    Raises:
      ValueError: outside the main thread.
    """
    receiver, sender = os.pipe()
    # `set_wakeup_fd` requires it.
    os.set_blocking(sender, False)

    def watch():
        while number := os.read(receiver, 1):
            act(number[0])

    heeded = [n for n in NUMBERS if signal.getsignal(n) is not signal.SIG_IGN]
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    waked = signal.set_wakeup_fd(sender)
    # The wakeup descriptor is written for signals with a Python handler only.
    before = {n: signal.signal(n, lambda *_: None) for n in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # Before the pipe is closed, whose number another file may take over.
        signal.set_wakeup_fd(waked)
        # The thread reads the end of the pipe, and ends.
        os.close(sender)
        watcher.join()
        os.close(receiver)


ONE_REQUEST = 0.5
"""Seconds within which signals count as one: `timeout` sends its signal twice."""


class Stopped(Exception):
    """A run was stopped by a signal; its record is kept."""

    def __init__(self, number: int):
        """Stores the number of the signal."""
        super().__init__(f"stopped by signal {number}")
        self.number = number


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Records SIGTERM and Ctrl-C while the block runs, instead of acting on them.

    A second signal ends the process at once, even while a program is compiled.

    Args:
      say: called with a message on the first signal.

    Yields:
      A function that returns the number of the signal received, 0 if none.
    """
    received, since = 0, 0.0

    def keep(number):
        nonlocal received, since
        # Called in the watching thread: the main thread may be in compiled code.
        if not received:
            received, since = number, time.monotonic()
            say("stopping after these rounds (or compiling); once more to stop at once")
        elif time.monotonic() - since > ONE_REQUEST:
            end(number)

    with obeying(keep):
        yield lambda: received
