"""Locks between processes, as files that the operating system watches over."""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedjax_sl.errors import InputError
from fedjax_sl.records import disk


def _check_regular(path: Path) -> None:
    """Rejects what is no regular file: opening a pipe would wait for ever."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: expected a regular file, which is a lock.")


@contextmanager
def locked(
    path: Path, what: Path, *, shared: bool = False, wait: bool = False
) -> Iterator[None]:
    """Holds a lock while the block runs; it ends with the process, however that ends.

    Args:
      path: file of the lock, made if need be, in a folder that exists.
      what: it stands for, which a refusal names.
      shared: with others that share it.
      wait: until it is free, where others have it for a moment only.

    Raises:
      ValueError: if another process has it, or if it is to be shared and the file
        system has no locks.
      DiskError: if the file cannot be written.
    """
    _check_regular(path)
    # For appending it is created and never changed; network file systems ask for
    # reading of who shares a lock.
    with disk.writing(path):
        file = path.open("a+")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with file:
        try:
            # By open file: a second lock in the same process is refused, too.
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise InputError(
                f"{what} is in use: expected no other process that writes to it."
            ) from taken
        except OSError as unknown:
            if shared:
                raise InputError(
                    f"{what} cannot be locked: expected a file system with locks, as "
                    "several processes write to it."
                ) from unknown
            # One process there is better than none.
            warnings.warn(f"{what} cannot be locked: {unknown}", stacklevel=4)
        yield
