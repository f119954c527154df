"""Ctrl-C and SIGTERM, obeyed by a thread of their own.

A handler written in Python waits until the main thread returns from compiled code, and
the exception that it raises is lost wherever Python ignores exceptions, as in JAX's
callback of the garbage collector, or becomes an ImportError in an extension's import.
A thread that the operating system's handler wakes is neither late nor ignored.
"""

import os
import signal
import sys
import threading
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
