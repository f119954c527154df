"""What is written reaches the disk itself, or the message says which path did not."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskError(OSError):
    """A disk did not take what should be written; the message names the path."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever the block is refused by the disk is said of this path.

    Raises:
      DiskError: if something cannot be written.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"{path} cannot be written: {reason}.") from error


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk itself.

    Raises:
      OSError: if they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on every file system
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Waits until everything in a folder is on the disk itself.

    Raises:
      OSError: if something cannot be written.
    """
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(here) / name)
        sync(Path(here))
