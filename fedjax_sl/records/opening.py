"""A folder made ready for a run; an earlier run stays until there is another to show.

A folder that belongs to a run has its config.json. A run that is replaced is set aside,
config.json first, and put back, config.json last, so that whenever a process ends the
folder tells what was going on:

    config.json                 files beside it are of its run
    .replaced/config.json only  files beside the folder `.replaced` belong into it
    neither                     what a start has left that came to nothing
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedjax_sl.errors import InputError
from fedjax_sl.records import disk
from fedjax_sl.records.run_folder import (
    BOUND,
    CHECKPOINTS,
    CONFIG,
    EVENTS,
    LOCK,
    METRICS,
    PART,
    PLOTS,
    ROUNDS,
    SUMMARY,
    SWEEP,
)


REPLACED = ".replaced"
TRIES = 20
"""Within a second, of removing what is still being written to."""

OWN = (CONFIG, SUMMARY, METRICS, ROUNDS, BOUND, PLOTS, EVENTS, CHECKPOINTS)
"""What a run writes, config.json first."""

UNFINISHED = tuple(name + PART for name in (*OWN, SWEEP))


def check(folder: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Refuses a folder that cannot be, or must not be, written to.

    Args:
      folder: of a run that is to begin.
      overwrite: allow replacing an earlier run there.
      resume: allow going on with replacing one, where that was stopped.

    Raises:
      ValueError: if something is there that may not be replaced.
      PermissionError: if it cannot be created.
    """
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"{parent} is a file: expected a folder for the run.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} cannot be written to.")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    begun, set_aside = CONFIG in names, _is_set_aside(folder)
    if not begun and not set_aside and not _left_by_a_start(names):
        raise InputError(f"{folder} is not empty and holds no run: nothing done.")
    if (begun or set_aside) and not overwrite and not (resume and not begun):
        raise InputError(
            f"{folder} holds a run already: give --overwrite to replace it, or "
            "another --folder."
        )


def _left_by_a_start(names: set[str]) -> bool:
    """Whether it is nothing, or what a start leaves that came to nothing."""
    return names <= {LOCK} or (LOCK in names and names <= {LOCK, *OWN, *UNFINISHED})


def _is_set_aside(folder: Path) -> bool:
    return (folder / REPLACED / CONFIG).exists()


def _has_something_to_show(folder: Path) -> bool:
    """Whether a run is there that came to an evaluation."""
    metrics = folder / METRICS
    begun = (folder / CONFIG).exists()
    return begun and metrics.exists() and b"\n" in metrics.read_bytes()


def _remove(path: Path) -> None:
    """Removes a file or a folder, though a write that failed may still add to it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for _ in range(TRIES):
        with suppress(FileNotFoundError, IsADirectoryError):
            try:
                shutil.rmtree(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
        if not path.exists():
            return
        time.sleep(1 / TRIES)
    shutil.rmtree(path)


def _move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            os.replace(source / name, target / name)


def _remove_own(folder: Path) -> None:
    for name in (*UNFINISHED, *reversed(OWN)):
        _remove(folder / name)


def make_way(folder: Path) -> None:
    """Sets an earlier run aside, or removes one that has nothing to show yet.

    Raises:
      DiskError: if that cannot be done.
    """
    aside = folder / REPLACED
    with disk.writing(folder):
        if _has_something_to_show(folder):
            _remove(aside)
            aside.mkdir()
            _move(folder, aside, OWN)
        elif not (folder / CONFIG).exists() and _is_set_aside(folder):
            _move(folder, aside, OWN)
        _remove_own(folder)
        disk.sync(folder)


def put_back(folder: Path) -> None:
    """Undoes `make_way`, and what came after it."""
    aside = folder / REPLACED
    if not _is_set_aside(folder):
        return
    if (folder / CONFIG).exists():
        _remove_own(folder)
    _move(aside, folder, tuple(reversed(OWN)))
    _remove(aside)


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """An earlier run makes way for what the block writes, and is back if that fails.

    Raises:
      DiskError: if something cannot be written.
    """
    try:
        make_way(folder)
        yield
    except BaseException:
        with suppress(OSError):  # then it stays where it was set aside
            put_back(folder)
        raise


def release(folder: Path) -> None:
    """Removes an earlier run that was set aside, now that there is something to show.

    Raises:
      DiskError: if it cannot be removed.
    """
    aside = folder / REPLACED
    if aside.exists():
        with disk.writing(aside):
            _remove(aside)
