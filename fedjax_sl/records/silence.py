"""What Orbax says of a failure is not shown, for whoever called it tells of that."""

import logging
import sys
from functools import cache
from pathlib import Path


def _not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


@cache
def silence_orbax() -> None:
    """Drops its log, and what its threads still want to say when it has given up.

    Both come from threads that outlast the call, so that this is for good.
    """
    logging.getLogger("absl").addFilter(_not_orbax)
    before = sys.unraisablehook

    def hook(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
