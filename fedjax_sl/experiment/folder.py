"""The folder of a run: created without ever losing what is there."""

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


CONFIG, METRICS, ROUNDS, SUMMARY, PLOTS = (
    "config.json",
    "metrics.jsonl",
    "rounds.jsonl",
    "summary.json",
    "plots",
)
CHECKPOINTS, EVENTS, BOUND, LOCK = "checkpoints", "events", "bound.json", ".lock"
SWEEP = "sweep.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a folder from other processes while the block runs.

    The lock is the operating system's and ends with the process, however that ends.

    Args:
      folder: of a run or a sweep, which is there.

    Raises:
      ValueError: if another process has it.
      OSError: if it cannot be written to.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise ValueError(
                f"{folder} is in use: expected no other process that writes to it."
            ) from taken
        except OSError as unknown:
            warnings.warn(f"{folder} cannot be locked: {unknown}", stacklevel=3)
        yield


def check_free(folder: Path) -> None:
    """Refuses a folder that another process writes to.

    Raises:
      ValueError: if one does.
      OSError: if it cannot be written to.
    """
    if (folder / LOCK).exists():
        with held(folder):
            pass


def check(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that cannot be, or must not be, written to.

    Args:
      folder: of the run.
      overwrite: allow replacing an earlier run there.

    Raises:
      ValueError: if something is there that may not be replaced.
      PermissionError: if it cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: expected a folder for the run.")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        if not (folder / CONFIG).exists():
            raise ValueError(f"{folder} is not empty and holds no run: nothing done.")
        if not overwrite:
            raise ValueError(
                f"{folder} holds a run already: give --overwrite to replace it, or "
                "another --folder."
            )
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} cannot be written to.")


def clear(folder: Path) -> None:
    """Removes an earlier run's files from a folder, no others."""
    for name in (CONFIG, METRICS, ROUNDS, SUMMARY, BOUND):
        (folder / name).unlink(missing_ok=True)
    for name in (PLOTS, CHECKPOINTS, EVENTS):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / PLOTS).mkdir()


def write_text(path: Path, text: str) -> None:
    """Writes a whole file, or leaves the one before."""
    temporary = path.with_suffix(path.suffix + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Adds JSON objects, a line each."""
    with path.open("a") as file:
        file.write("".join(json.dumps(values) + "\n" for values in lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All objects of a file of lines; a last one half written is left out, and said.

    Raises:
      ValueError: if a line is no JSON object, or there is none.
      OSError: if the file cannot be read.
    """
    try:
        *whole, rest = path.read_text().split("\n")
    except UnicodeDecodeError as broken:
        raise ValueError(f"{path} is no text: expected JSON, a line each.") from broken
    if rest:
        warnings.warn(f"{path}: the last line is half written, left out.", stacklevel=2)
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ValueError(f"{path}: line {number} is not a JSON object.")
        lines.append(values)
    if not lines:
        raise ValueError(f"{path} holds no line yet.")
    return lines


def keep_lines(path: Path, count: int) -> None:
    """Cuts a file of lines off after so many, as they were written."""
    if path.exists():
        kept = path.read_text().split("\n")[:count]
        write_text(path, "".join(f"{line}\n" for line in kept))


def resume_lines(path: Path) -> list[dict[str, Any]]:
    """The lines so far, if there is a file; a half-written last one is cut off."""
    if not path.exists():
        return []
    with path.open("rb+") as file:
        size = file.read().rfind(b"\n") + 1
        file.truncate(size)
    return read_lines(path) if size else []
