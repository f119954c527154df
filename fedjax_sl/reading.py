"""Reads regular files up to a size limit.

Reading a pipe may block for ever; a device or an untrusted file may never end.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from fedjax_sl.errors import InputError


DESCRIPTION = 2**26
"""Size limit of configurations, summaries and metadata, in bytes: 64 MiB."""

RECORD = 2**32
"""Size limit of files with lines per round, in bytes: 4 GiB."""


def _check(path: Path, found: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file.")
    if most is not None and found.st_size > most:
        raise InputError(f"{path} has {found.st_size} bytes: expected at most {most}.")


def check(path: Path, *, most: int | None = None) -> None:
    """Rejects a path that is not a regular file or is too large, without opening it.

    Raises:
      ValueError: if it is not a regular file, or has more than `most` bytes.
      OSError: if it does not exist or cannot be inspected.
    """
    _check(path, os.stat(path), most)


def read_bytes(path: Path, *, most: int) -> bytes:
    """Reads a regular file of at most `most` bytes.

    Raises:
      ValueError: if it is not a regular file, or larger.
      OSError: if it cannot be read.
    """
    check(path, most=most)  # before opening, on which some devices act
    # Without blocking, should the path be a pipe by now.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        # The path may have been replaced in the meantime.
        _check(path, os.fstat(file.fileno()), most)
        content = file.read(most + 1)
    if len(content) > most:  # not all file systems report sizes in advance
        raise InputError(f"{path} has more than {most} bytes: expected no more.")
    return content


def read_text(path: Path, *, most: int = DESCRIPTION) -> str:
    """Reads a regular file as text.

    Raises:
      ValueError: also if it is not UTF-8.
      OSError: if it cannot be read.
    """
    try:
        return read_bytes(path, most=most).decode()
    except UnicodeDecodeError as broken:
        raise InputError(f"{path} is no text: {broken}.") from broken


def read_json(path: Path, *, most: int = DESCRIPTION) -> Any:
    """Reads a regular file as JSON.

    Raises:
      ValueError: also if it is not JSON.
      OSError: if it cannot be read.
    """
    text = read_text(path, most=most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
