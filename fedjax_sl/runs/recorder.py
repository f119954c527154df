"""Writes a run's metrics and checkpoints while it lasts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedjax_sl.errors import InputError
from fedjax_sl.records import disk, opening
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.runs.segments import Segment


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Checkpoints of a run, from which it can be resumed."""

    resume: bool = False
    """Resume the run in the folder, if there is one, as if it had not stopped."""

    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints, which are taken between rounds, >= 0."""

    checkpoints: int = 2
    """How many of them are kept, the last ones, >= 1."""

    keep_every: int | None = None
    """Keep the checkpoint after every so many rounds, too, >= 1; none if not given."""

    keep_best: bool = False
    """Keep the checkpoint of the highest test accuracy, too."""

    def __post_init__(self):
        """Checks the ranges."""
        if not 0 <= self.checkpoint_seconds < float("inf"):
            raise InputError(
                f"checkpoint_seconds={self.checkpoint_seconds}: expected a number >= 0."
            )
        if self.checkpoints < 1:
            raise InputError(f"checkpoints={self.checkpoints}: expected at least 1.")
        if self.keep_every is not None and self.keep_every < 1:
            raise InputError(f"keep_every={self.keep_every}: expected at least 1.")

    @property
    def stops(self) -> tuple[int, ...]:
        """A checkpoint is taken every so many rounds, for each of these."""
        return () if self.keep_every is None else (self.keep_every,)


def clock(seconds: float) -> Callable[[], bool]:
    """A function that says whether so much time has passed since it last said so."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < seconds:
            return False
        last = now
        return True

    return due


class Record:
    """The record of a run on disk: its lines and its checkpoints."""

    def __init__(
        self,
        folder: Path,
        keeping: Keeping = Keeping(),
        lines: Sequence[dict[str, Any]] = (),
    ):
        """That in a folder.

        Args:
          folder: of the run.
          keeping: which checkpoints stay.
          lines: of its metrics so far.

        Raises:
          DiskError: if something cannot be written.
        """
        self.folder, self.keeping = folder, keeping
        self.best_round, self.best = 0, -1.0
        # A resumed run finds its best round again.
        for line in lines:
            self._compare(line)
        self.shows = bool(lines)
        # The process before may have ended between its first evaluation and this.
        if self.shows:
            opening.release(folder)
        self.checkpoints = Checkpoints(
            folder / folders.CHECKPOINTS,
            keep=keeping.checkpoints,
            for_good=self._for_good,
        )

    def _compare(self, line: dict[str, Any]) -> None:
        if self.keeping.keep_best and line["test_accuracy"] > self.best:
            self.best_round, self.best = line["round"], line["test_accuracy"]

    def _for_good(self, round: int) -> bool:
        """Whether its checkpoint stays."""
        every = self.keeping.keep_every
        # Round 0 is a multiple of everything, and the best until there is another.
        return round > 0 and (
            round == self.best_round or (every is not None and round % every == 0)
        )

    def open(self, start: Checkpoint) -> None:
        """Takes a first checkpoint, before anything is on record.

        Raises:
          DiskError: if it cannot be written.
        """
        if not self.checkpoints.rounds():
            self.checkpoints.save(start)
            # A failure has to come while `opening.replacing` can restore the old run.
            self.checkpoints.wait()

    def add(self, segment: Segment, *, keep: bool) -> None:
        """Writes lines, then a checkpoint, which is of rounds that are on record.

        Args:
          segment: the next rounds.
          keep: take a checkpoint after them, whatever they are.

        Raises:
          DiskError: if something cannot be written.
        """
        rounds, metrics = (
            self.folder / name for name in (folders.ROUNDS, folders.METRICS)
        )
        # Rounds first: who reads a line of metrics.jsonl expects the rounds up to it.
        folders.append_lines(rounds, segment.rounds)
        if segment.line is not None:
            folders.append_lines(metrics, [segment.line])
            self._compare(segment.line)
        if keep or self._for_good(segment.reached.round):
            # On the disk before the checkpoint, which cannot be used without them.
            self._flush()
            self.checkpoints.save(segment.reached)
        if segment.line is not None and not self.shows:
            self.shows = True
            # The new result is on the disk before the old one goes.
            self._flush()
            opening.release(self.folder)

    def _flush(self) -> None:
        """Flushes the lines to the disk itself."""
        for name in (folders.ROUNDS, folders.METRICS):
            path = self.folder / name
            with disk.writing(path):
                # There is no metrics.jsonl before the first evaluation.
                path.touch()
                disk.sync(path)

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          DiskError: if it cannot be.
        """
        self.checkpoints.close()
