"""Cells of an experiment: runs that are resumed where they stopped, a row for each.

A cell's run has a folder in runs/experiments, and its row is stored once it has
finished.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import fedjax_sl
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.records.finished_run import learning_curve, read
from fedjax_sl.records.run_folder import (
    SUMMARY,
    append_lines,
    resume_lines,
)
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.restore import check_folder
from fedjax_sl.runs.run import run
from fedjax_sl.runs.tracking import Tracking


FOLDERS = Path("runs/experiments")

COLUMNS = {
    "round": "rounds",
    "epoch": "epochs",
    "test_accuracy": "accuracy",
    "pruned_test_accuracy": "pruned_accuracy",
    "train_loss": "loss",
    "uplink_bits": "uplink_bits",
    "downlink_bits": "downlink_bits",
    "sim_seconds": "seconds",
    "sim_joules": "joules",
}
"""Figures of an evaluation, and the columns of a row that have them of every one."""


NARROW = 10
"""Factor by which the band of a slower channel is narrower than a run's own."""


class Cell(NamedTuple):
    """A run of an experiment.

    Attributes:
      name: of its folder, with the seed.
      labels: what its row is found by, besides the seed.
      config: the run.
    """

    name: str
    labels: dict[str, Any]
    config: RunConfig

    @property
    def folder(self) -> str:
        """The name of its run's folder."""
        return f"{self.name}-{self.config.seed}"

    def is_in(self, row: dict[str, Any]) -> bool:
        """Whether the row is this cell's."""
        return all(row.get(key) == value for key, value in self.known.items())

    @property
    def known(self) -> dict[str, Any]:
        """Its labels and seed."""
        return self.labels | {"seed": self.config.seed}


@cache
def code_version() -> str:
    """A hash of the package's sources, which decide what a row says."""
    root, digest = Path(fedjax_sl.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _versions(folder: Path) -> str:
    """Notes beside a run by which code it is computed, and returns all, in order."""
    path = folder.with_name(f"{folder.name}.code")
    known = path.read_text().split() if folder.exists() and path.exists() else []
    if known[-1:] != [code_version()]:
        known.append(code_version())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(known))
    return "+".join(known)


def row_of(folder: Path) -> dict[str, Any]:
    """Returns what a row says of a finished run: its learning curve and its costs.

    Costs over a channel with a tenth of the band, and over one without fading, stand
    beside those over its own.
    """
    seen = read(folder)
    lines, own = seen.lines, seen.config.channel
    slower = learning_curve(seen, replace(own, bandwidth_hz=own.bandwidth_hz / NARROW))
    steady = learning_curve(seen, replace(own, fading=False))
    summary = json.loads((folder / SUMMARY).read_text())
    return {
        "device": summary["device"],
        "hours": round(lines[-1]["wall_seconds"] / 3600, 3),
        **{
            column: [line[figure] for line in lines]
            for figure, column in COLUMNS.items()
            if figure in lines[-1]
        },
        "slow_seconds": slower.seconds.tolist(),
        "slow_joules": slower.joules.tolist(),
        "steady_seconds": steady.seconds.tolist(),
        "steady_joules": steady.joules.tolist(),
        "updates_up_bits": int(seen.record.traffic.updates_up.sum()),
    }


def finish(cell: Cell, folders: Path, console: Console) -> tuple[Path, str]:
    """Runs a cell, from where it stopped.

    Args:
      cell: the run.
      folders: where the folders of an experiment's runs are.
      console: where progress is shown.

    Returns:
      Its folder, and the hashes of the sources that computed it.
    """
    folder = folders / cell.folder
    console.print(f"{folder}:")
    check_folder(folder, cell.config, resume=True)
    versions = _versions(folder)
    run(
        prepare(cell.config),
        folder,
        console=console,
        keeping=Keeping(resume=True),
        tracked=Tracking(),
    )
    return folder, versions


def rows_of(
    cells: Iterable[Cell], path: Path, *, folders: Path, console: Console
) -> Iterator[list[dict[str, Any]]]:
    """Runs the cells that a file of rows lacks, and appends their rows to it.

    Args:
      cells: of the experiment.
      path: of its rows.
      folders: where the folders of its runs are.
      console: where progress is shown.

    Yields:
      All rows so far: those that there were, and again after each run.
    """
    rows = resume_lines(path)
    yield rows
    for cell in cells:
        if any(cell.is_in(row) for row in rows):
            continue
        folder, versions = finish(cell, folders, console)
        rows.append(cell.known | {"code": versions} | row_of(folder))
        append_lines(path, rows[-1:])
        yield rows
