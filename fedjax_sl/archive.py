"""Reads archives that `numpy.savez` wrote, without pickle."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sl import reading
from fedjax_sl.errors import InputError


DAMAGED = (
    *(ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error),
    # Of members that are encrypted, or compressed in a way that Python does not know.
    *(RuntimeError, NotImplementedError),
)


def opened(path: str | os.PathLike) -> Any:
    """Opens an archive, to be closed again.

    Raises:
      ValueError: if it is none.
      OSError: if there is no such file.
    """
    reading.check(Path(path))
    try:
        # Without pickle, by which a stranger's file could run code.
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no archive of numpy.savez.") from error
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise InputError(f"{path} has one array: expected an archive of numpy.savez.")
    return found


def array_of(arrays: Any, key: str) -> np.ndarray:
    """Reads an array of an open archive.

    Raises:
      ValueError: if it is damaged, or holds objects, which only pickle reads.
    """
    try:
        return arrays[key]
    except DAMAGED as error:
        reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        raise InputError(f"{key} cannot be read: {reason}") from error
