"""The folder of a run: created without ever losing what is there."""

import json
import os
import shutil
from pathlib import Path
from typing import Any


CONFIG, METRICS, SUMMARY, PLOTS = (
    "config.json",
    "metrics.jsonl",
    "summary.json",
    "plots",
)


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
    if folder.exists() and any(folder.iterdir()):
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


def create(folder: Path) -> None:
    """Makes the folder, and removes an earlier run's files from it, no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, METRICS, SUMMARY):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / PLOTS, ignore_errors=True)
    (folder / PLOTS).mkdir()


def write_text(path: Path, text: str) -> None:
    """Writes a whole file, or leaves the one before."""
    temporary = path.with_suffix(path.suffix + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Adds one JSON object as a line."""
    with path.open("a") as lines:
        lines.write(json.dumps(values) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All objects of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
