"""The folder of a sweep: a run's folder for each point, and a table of all runs."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedjax_sl import reading
from fedjax_sl.configs.fields import differing, flattened, renamed
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.errors import InputError
from fedjax_sl.extras import lacking
from fedjax_sl.methods import usual_of
from fedjax_sl.records import disk, opening
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.locks import locked


TABLE, UNFINISHED = "sweep.parquet", "unfinished"


def name_of(number: int) -> str:
    """Returns the name of a run's folder in that of its sweep."""
    return f"run-{number:04d}"


def _before(config: RunConfig) -> dict[str, Any]:
    """Returns by dotted name what versions did that lacked a field."""
    return {
        f"{part}.{name}": value
        for part, values in config.before.items()
        for name, value in values.items()
    }


def unfinished(folders_given: Sequence[Path]) -> list[str]:
    """Returns a sentence for each sweep of which some runs are not finished.

    Args:
      folders_given: of runs and sweeps.

    Returns:
      Such as "runs/bits: 2 of 6 runs are finished."
    """
    sentences = []
    for folder in folders_given:
        if not (folder / folders.SWEEP).exists():
            continue
        points = reading.read_json(folder / folders.SWEEP)
        finished = len(list(folder.glob("run-*")))
        if isinstance(points, list) and finished < len(points):
            sentences.append(
                f"{folder}: {finished} of {len(points)} runs are finished."
            )
    return sentences


class SweepFolder:
    """Folder of a sweep, in which a run appears once it is complete."""

    def __init__(self, path: Path, points: Sequence[RunConfig]):
        """Describes the folder at a path, of runs with these configurations."""
        self.path, self.points = path, points

    def _description(self) -> list[dict[str, Any]]:
        # As a file has it: JSON turns tuples into lists.
        return json.loads(json.dumps([flattened(point) for point in self.points]))

    def _is_described_by(self, stored: Any) -> bool:
        """Returns whether a stored description is that of this sweep's runs."""
        # Fields that the file is too old to have: as versions then were, or by default.
        kinds = [flattened(usual_of(p)) | _before(p) for p in self.points]
        usual = json.loads(json.dumps(kinds))
        if not isinstance(stored, list) or len(stored) != len(usual):
            return False
        filled = [was | renamed(run) for was, run in zip(usual, stored, strict=True)]
        return filled == self._description()

    def check(self) -> None:
        """Rejects a folder that holds something else, or cannot be written to.

        Raises:
          ValueError: if it holds another sweep or anything else.
          OSError: if it cannot be written to.
        """
        known = self.path / folders.SWEEP
        if not (self.path.is_dir() and known.exists()):
            try:
                return opening.check(self.path, overwrite=False)
            except InputError:
                # Another part may just have begun the sweep.
                if not known.exists():
                    raise
        try:
            same = self._is_described_by(reading.read_json(known))
        except (ValueError, TypeError):
            same = False
        if not same:
            raise InputError(
                f"{self.path} holds another sweep: give the options that it was "
                "started with, or another --folder."
            )

    @contextmanager
    def open(self, *, shared: bool = False) -> Iterator[None]:
        """Locks the folder while the block runs, and creates it if need be.

        Args:
          shared: with processes that train other parts of the sweep.

        Raises:
          ValueError: if another process has locked it, or if it holds something else.
          OSError: if it cannot be written to.
        """
        with disk.writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with folders.held(self.path, shared=shared):
            with self.alone():
                # Again: another process may have written before the lock was taken.
                self.check()
                description = json.dumps(self._description()) + "\n"
                # Also when resuming: an earlier version's file gets what it lacks.
                folders.write_text(self.path / folders.SWEEP, description)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other parts from files of the whole sweep for a moment.

        Raises:
          DiskError: if the lock cannot be written.
        """
        with locked(self.path / folders.PARTS, self.path, wait=True):
            yield

    @contextmanager
    def taken(self, number: int) -> Iterator[None]:
        """Locks a point while it is trained: parts of other divisions may have it, too.

        Raises:
          ValueError: if another process trains it.
          DiskError: if the lock cannot be written.
        """
        path = self._unfinished(number)
        with disk.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the record, which `finish` moves while it is locked.
        with locked(path.with_suffix(folders.LOCK), path):
            yield

    def _point(self, number: int) -> Path:
        return self.path / name_of(number)

    def missing(self) -> list[int]:
        """Returns the numbers of points that are not finished."""
        # What has its final name is complete: `finish` renames last.
        return [n for n in range(len(self.points)) if not self.is_finished(n)]

    def is_finished(self, number: int) -> bool:
        """Returns whether a point has its final folder."""
        return self._point(number).exists()

    def _unfinished(self, number: int) -> Path:
        return self.path / UNFINISHED / name_of(number)

    def has_begun(self, number: int) -> bool:
        """Returns whether an unfinished point has a record to resume from."""
        return (self._unfinished(number) / folders.ROUNDS).exists()

    def begin(self, number: int, config: RunConfig) -> Path:
        """Creates the folder of a point while it runs.

        Args:
          number: number of the point.
          config: resolved configuration of the point.

        Returns:
          The folder, with a config.json.

        Raises:
          DiskError: if it cannot be written to.
        """
        path = self._unfinished(number)
        with disk.writing(path):
            path.mkdir(parents=True, exist_ok=True)
        folders.write_text(path / folders.CONFIG, to_json(config))
        return path

    def is_complete(self, number: int) -> bool:
        """Returns whether an unfinished point has the record of all its rounds."""
        path, rounds = self._unfinished(number), self.points[number].rounds
        if not self.has_begun(number):
            return False
        # Half-written lines do not count, as when the run is resumed.
        metrics, lines = (
            folders.resume_lines(path / name)
            for name in (folders.METRICS, folders.ROUNDS)
        )
        return bool(metrics) and metrics[-1].get("round") == rounds == len(lines)

    def finish(self, number: int) -> None:
        """Moves the record of a point to its final folder, without checkpoints.

        Raises:
          DiskError: if it cannot be moved.
        """
        path, final = self._unfinished(number), self._point(number)
        with disk.writing(final):
            # Lines first: if this is interrupted, they alone tell it is complete.
            disk.sync_tree(path)
            shutil.rmtree(path / folders.CHECKPOINTS, ignore_errors=True)
            path.rename(final)
            disk.sync(self.path)

    def lines(self, number: int) -> list[dict[str, Any]]:
        """Reads the evaluations of a finished point."""
        return folders.read_lines(self._point(number) / folders.METRICS)

    def write_table(self) -> str:
        """Writes sweep.parquet, with a row for each run and evaluation.

        Returns:
          Why it is left out, in a sentence, if PyArrow is not installed.
        """
        sentence = lacking("pyarrow", f"{TABLE} is left out: it needs")
        if not sentence:
            self._write_rows()
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        return sentence

    def _write_rows(self) -> None:
        # Late: it takes half a second, and is an extra.
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = differing(self.points)
        rows = []
        for number, point in enumerate(self.points):
            fields = flattened(point)
            label = {name: fields.get(name) for name in names}
            lines = folders.read_lines(self._point(number) / folders.METRICS)
            rows += [{"run": number, "seed": point.seed, **label, **x} for x in lines]
        part = self.path / f"{TABLE}{folders.PART}"
        with disk.writing(part):
            pq.write_table(pa.Table.from_pylist(rows), part)
            disk.sync(part)
            part.replace(self.path / TABLE)
