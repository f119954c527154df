"""What a library logs of a failure is not shown where its caller tells of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silent(library: str) -> Iterator[None]:
    """Keeps to itself what the files of a library log through Abseil in the block."""
    logger = logging.getLogger("absl")

    def others(record: logging.LogRecord) -> bool:
        return library not in Path(record.pathname).parts

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
