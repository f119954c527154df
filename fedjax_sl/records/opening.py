"""Prepares a folder for a run; an earlier run stays until the new one has a result.

A run's folder has a config.json. An earlier run is set aside, config.json first, and
restored, config.json last. Whenever the process ends, the folder tells the state:

    config.json                 files beside it belong to its run
    .replaced/config.json only  files beside `.replaced` belong into `.replaced`
    neither                     leftovers of a start that failed
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
    DATA,
    EVENTS,
    LOCK,
    METRICS,
    PART,
    PARTS,
    PLOTS,
    ROUNDS,
    SUMMARY,
    SWEEP,
)


REPLACED = ".replaced"
TRIES = 20
"""Attempts within a second to remove a folder that is still written to."""

OWN = (CONFIG, DATA, SUMMARY, METRICS, ROUNDS, BOUND, PLOTS, EVENTS, CHECKPOINTS)
"""Files and folders that a run writes, config.json first."""

# With sweep.json: the start of a sweep may have failed in the same folder.
UNFINISHED = tuple(name + PART for name in (*OWN, SWEEP))


def check(folder: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Rejects a folder that cannot be written to, or holds something else.

    Args:
      folder: folder of a new run.
      overwrite: allow replacing an earlier run.
      resume: allow completing a replacement that was interrupted.

    Raises:
      ValueError: if it holds something that must not be replaced.
      PermissionError: if it cannot be created.
    """
    # The folder may not exist yet: the nearest parent that does has to be writable.
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
    """Returns whether there is nothing but leftovers of a start that failed."""
    # Without a lock, files with such names are not of this package.
    return names <= {LOCK} or (
        LOCK in names and names <= {LOCK, PARTS, *OWN, *UNFINISHED}
    )


def _is_set_aside(folder: Path) -> bool:
    return (folder / REPLACED / CONFIG).exists()


def _has_something_to_show(folder: Path) -> bool:
    """Returns whether the folder holds a run with at least one evaluation."""
    metrics = folder / METRICS
    begun = (folder / CONFIG).exists()
    # A line without its end is half written.
    return begun and metrics.exists() and b"\n" in metrics.read_bytes()


def _remove(path: Path) -> None:
    """Removes a file or a folder."""
    if not path.is_dir() or path.is_symlink():
        # Of a link the link itself, never what it points to.
        path.unlink(missing_ok=True)
        return
    # Threads of a failed write may still add files: not empty means try again.
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
    # config.json last: until then the other files belong to its run.
    for name in (*UNFINISHED, *reversed(OWN)):
        _remove(folder / name)


def make_way(folder: Path) -> None:
    """Sets an earlier run aside, or removes it if it has no evaluation yet.

    Raises:
      DiskError: if the files cannot be moved or removed.
    """
    aside = folder / REPLACED
    with disk.writing(folder):
        if _has_something_to_show(folder):
            # A `release` was interrupted: the run beside it has an evaluation.
            _remove(aside)
            aside.mkdir()
            _move(folder, aside, OWN)
        elif not (folder / CONFIG).exists() and _is_set_aside(folder):
            # An earlier process ended amid its moves: the rest follows.
            _move(folder, aside, OWN)
        if aside.exists():
            # Where files are now before where they are no more.
            disk.sync(aside)
        _remove_own(folder)
        disk.sync(folder)


def _take_back(source: Path, target: Path) -> None:
    """Moves a file or folder in the place of what a failed write leaves there."""
    for _ in range(TRIES):
        _remove(target)
        try:
            os.replace(source, target)
            return
        except OSError as error:  # its threads were quicker
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    os.replace(source, target)


def put_back(folder: Path) -> None:
    """Restores the run that `make_way` set aside, and removes the new one."""
    aside = folder / REPLACED
    if not _is_set_aside(folder):
        return
    # Without config.json, files beside `.replaced` are of the run that comes back.
    if (folder / CONFIG).exists():
        _remove_own(folder)
    # config.json last: until it is back the folder tells that the run is set aside.
    for name in reversed(OWN):
        if (aside / name).exists():
            _take_back(aside / name, folder / name)
    _remove(aside)


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Sets an earlier run aside while the block runs, and restores it on failure.

    Raises:
      DiskError: if something cannot be written.
    """
    try:
        make_way(folder)
        yield
    except BaseException:
        # If this fails too, the earlier run stays in `.replaced`.
        with suppress(OSError):
            put_back(folder)
        raise


def release(folder: Path) -> None:
    """Removes the earlier run that was set aside, once the new one has a result.

    Raises:
      DiskError: if it cannot be removed.
    """
    aside = folder / REPLACED
    if aside.exists():
        with disk.writing(aside):
            _remove(aside)
