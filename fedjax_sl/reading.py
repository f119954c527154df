"""Files are read up to a size, and only if they are files.

A pipe may wait for ever, and a device, or what a stranger made, may never end.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from fedjax_sl.errors import InputError


DESCRIPTION = 2**26
"""Bytes that settings, summaries and metadata may have: 64 MiB."""

RECORD = 2**32
"""Bytes that lines written round by round may have: 4 GiB."""


def _check(path: Path, found: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file.")
    if most is not None and found.st_size > most:
        raise InputError(f"{path} has {found.st_size} bytes: expected at most {most}.")


def check(path: Path, *, most: int | None = None) -> None:
    """Refuses what is no regular file, or larger than so many bytes; opens nothing.

    Raises:
      ValueError: if it is one of these.
      OSError: if it is not there or cannot be looked at.
    """
    _check(path, os.stat(path), most)


def read_bytes(path: Path, *, most: int) -> bytes:
    """What is in a regular file of at most so many bytes.

    Raises:
      ValueError: if it is no regular file, or larger.
      OSError: if it cannot be read.
    """
    check(path, most=most)  # some devices act on being opened
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        _check(path, os.fstat(file.fileno()), most)
        content = file.read(most + 1)
    if len(content) > most:  # not all file systems know sizes beforehand
        raise InputError(f"{path} has more than {most} bytes: expected no more.")
    return content


def read_text(path: Path, *, most: int = DESCRIPTION) -> str:
    """The same as text.

    Raises:
      ValueError: also if it is not UTF-8.
      OSError: if it cannot be read.
    """
    try:
        return read_bytes(path, most=most).decode()
    except UnicodeDecodeError as broken:
        raise InputError(f"{path} is no text: {broken}.") from broken


def read_json(path: Path, *, most: int = DESCRIPTION) -> Any:
    """The same as JSON.

    Raises:
      ValueError: also if it is not JSON.
      OSError: if it cannot be read.
    """
    text = read_text(path, most=most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
