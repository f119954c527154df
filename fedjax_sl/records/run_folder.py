"""The folder of a run: names of its files, its lock, and JSON Lines."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedjax_sl import reading
from fedjax_sl.errors import InputError
from fedjax_sl.records import disk
from fedjax_sl.records.locks import locked


CONFIG, METRICS, ROUNDS, SUMMARY, PLOTS = (
    "config.json",
    "metrics.jsonl",
    "rounds.jsonl",
    "summary.json",
    "plots",
)
CHECKPOINTS, EVENTS, BOUND, LOCK = "checkpoints", "events", "bound.json", ".lock"
DATA, SWEEP, PART, PARTS = "data.json", "sweep.json", ".part", ".parts"


@contextmanager
def held(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Locks a folder against other processes while the block runs.

    Args:
      folder: existing folder of a run or a sweep.
      shared: but not against those that share it, too.

    Raises:
      ValueError: if another process has locked it.
      DiskError: if it cannot be written to.
    """
    with locked(folder / LOCK, folder, shared=shared):
        yield


def check_free(folder: Path, *, shared: bool = False) -> None:
    """Rejects a folder that another process has locked.

    Args:
      folder: of a run or a sweep, if there is one.
      shared: not by those that share it.

    Raises:
      ValueError: if it is locked.
      OSError: if it cannot be written to.
    """
    # `held` would create the file, in a folder that may yet be refused.
    if (folder / LOCK).exists():
        with held(folder, shared=shared):
            pass


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically, also if power is lost.

    Raises:
      DiskError: if it cannot be written.
    """
    temporary = path.with_suffix(path.suffix + PART)
    with disk.writing(path):
        temporary.write_text(text)
        # Content before name: a rename may reach the disk before unsynced content.
        disk.sync(temporary)
        os.replace(temporary, path)
        disk.sync(path.parent)


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Appends JSON objects to a file, one per line.

    Raises:
      DiskError: if they cannot be written.
    """
    # Not synced here: `Record.add` syncs lines before a checkpoint relies on them.
    with disk.writing(path), path.open("a") as file:
        file.write("".join(json.dumps(values) + "\n" for values in lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON objects, one per line; skips a half-written last line with a warning.

    Raises:
      ValueError: if a line is no JSON object, or if there is no line.
      OSError: if the file cannot be read.
    """
    *whole, rest = reading.read_text(path, most=reading.RECORD).split("\n")
    if rest:
        warnings.warn(f"{path}: the last line is half written, left out.", stacklevel=2)
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            values = json.loads(text)
        # Deep nesting exceeds the parser's recursion limit.
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise InputError(f"{path}: line {number} is not a JSON object.")
        lines.append(values)
    if not lines:
        raise InputError(f"{path} holds no line yet.")
    return lines


def keep_lines(path: Path, count: int) -> None:
    """Truncates a file to its first `count` lines.

    Raises:
      DiskError: if it cannot be written.
    """
    text = reading.read_text(path, most=reading.RECORD) if path.exists() else ""
    lines = text.split("\n")[:-1]
    if len(lines) > count:
        # Not truncated in place: an interruption leaves the old lines or the new ones.
        write_text(path, "".join(f"{line}\n" for line in lines[:count]))


def resume_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a file, if it exists, and cuts off a half-written last one.

    Raises:
      ValueError: if a line is no JSON object.
      OSError: if the file cannot be read or written.
    """
    if not path.exists():
        return []
    reading.check(path, most=reading.RECORD)
    with disk.writing(path), path.open("rb+") as file:
        content = file.read()
        # Lines that had not reached the disk when power was lost are read as zeros.
        size = content.partition(b"\0")[0].rfind(b"\n") + 1
        if size < len(content):
            file.truncate(size)
    return read_lines(path) if size else []
