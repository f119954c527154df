"""The folder of a sweep: a run's folder for each point, and one table of them all."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment.batch import Outcome
from fedjax_sl.experiment.config import Run, to_json
from fedjax_sl.experiment.finished import differing, settings


TABLE = "sweep.parquet"


class SweepFolder:
    """Where the runs of a sweep lie; a run is there whole or not at all."""

    def __init__(self, path: Path, points: Sequence[Run]):
        """The folder at a path, of runs with these configurations."""
        self.path, self.points = path, points

    def _description(self) -> list[dict[str, Any]]:
        return json.loads(json.dumps([settings(point) for point in self.points]))

    def check(self) -> None:
        """Refuses a folder that holds something else, or cannot be written to.

        Raises:
          ValueError: if it holds something else.
          OSError: if it cannot be written to.
        """
        known = self.path / folders.SWEEP
        if not (self.path.is_dir() and known.exists()):
            folders.check(self.path, overwrite=False)
            return
        try:
            same = json.loads(known.read_text()) == self._description()
        except ValueError:
            same = False
        if not same:
            raise ValueError(
                f"{self.path} holds another sweep: give the options that it was "
                "started with, or another --folder."
            )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Has the folder while the block runs; it is made if it is not there yet.

        Raises:
          ValueError: if another process has it, or has put something else there.
          OSError: if it cannot be written to.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with folders.held(self.path):
            self.check()
            description = json.dumps(self._description()) + "\n"
            folders.write_text(self.path / folders.SWEEP, description)
            yield

    def _point(self, number: int) -> Path:
        return self.path / f"run-{number:04d}"

    def missing(self) -> list[int]:
        """Numbers of the points that have not run yet."""
        return [n for n in range(len(self.points)) if not self._point(n).exists()]

    def keep(self, number: int, outcome: Outcome) -> None:
        """Writes the record of a point."""
        final = self._point(number)
        part = final.with_name(f".{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / folders.CONFIG).write_text(to_json(outcome.config))
        folders.append_lines(part / folders.METRICS, outcome.lines)
        folders.append_lines(part / folders.ROUNDS, outcome.rounds)
        part.rename(final)

    def write_table(self) -> None:
        """sweep.parquet: a line for each run and evaluation."""
        names = differing(self.points)
        rows = []
        for number, point in enumerate(self.points):
            every = settings(point)
            label = {name: every.get(name) for name in names}
            lines = folders.read_lines(self._point(number) / folders.METRICS)
            rows += [{"run": number, "seed": point.seed, **label, **x} for x in lines]
        part = self.path / f"{TABLE}.part"
        pq.write_table(pa.Table.from_pylist(rows), part)
        part.replace(self.path / TABLE)
