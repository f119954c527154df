"""Silences Orbax, whose failures reach the user through the exceptions it raises."""

import logging
import sys
from functools import cache
from pathlib import Path


def _not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


@cache
def silence_orbax() -> None:
    """Drops Orbax's log, and errors of its threads once their event loop is closed."""
    # For the rest of the process: both come from threads that outlive the call.
    logging.getLogger("absl").addFilter(_not_orbax)
    before = sys.unraisablehook

    def hook(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
