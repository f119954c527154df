"""Durable writes: errors name the path, and `fsync` reaches the disk itself."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskError(OSError):
    """A path cannot be written; the message names it."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` of the block into a `DiskError` that names this path.

    Raises:
      DiskError: if something cannot be written.
    """
    try:
        yield
    except DiskError:
        # It names the innermost path already.
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"{path} cannot be written: {reason}.") from error


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk itself.

    Raises:
      OSError: if they cannot be written.
    """
    # Read-only: a folder cannot be opened in another way.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not every file system can sync, folders in particular.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flushes everything in a folder to the disk itself.

    Raises:
      OSError: if something cannot be written.
    """
    # Bottom up: the content of a folder before its entry in the one above.
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(here) / name)
        sync(Path(here))
