"""One run, from a job to its finished folder."""

import json
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_sl.data.partition import label_histogram, label_skew
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment import hosts
from fedjax_sl.experiment.beginning import begin
from fedjax_sl.experiment.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.experiment.config import to_json
from fedjax_sl.experiment.job import Job
from fedjax_sl.experiment.plots import draw as draw_plots
from fedjax_sl.experiment.progress import reporting
from fedjax_sl.experiment.stopping import Stopped, stop_requests
from fedjax_sl.experiment.tracking import Track, Tracking, tracking
from fedjax_sl.experiment.training import Programs, Stretch, programs_of, stretches


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is kept of a run while it lasts, so that it can go on later."""

    resume: bool = False
    """Go on with the run in the folder, if there is one, as if it had not stopped."""

    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints, which are taken at evaluations, >= 0."""

    checkpoints: int = 2
    """How many of them are kept, the last ones, >= 1."""

    def __post_init__(self):
        """Checks the ranges."""
        if not 0 <= self.checkpoint_seconds < float("inf"):
            raise ValueError(
                f"checkpoint_seconds={self.checkpoint_seconds}: expected a number >= 0."
            )
        if self.checkpoints < 1:
            raise ValueError(f"checkpoints={self.checkpoints}: expected at least 1.")


def _summary(job: Job, lines: list[dict[str, Any]]) -> dict[str, Any]:
    histogram = label_histogram(job.partition, job.train.label, job.train.num_classes)
    device = jax.devices()[0]
    packages = ("fedjax-sl", "jax", "flax", "optax", "numpy")
    return {
        "final": lines[-1],
        "best_test_accuracy": max(line["test_accuracy"] for line in lines),
        "train_examples": len(job.train.label),
        "test_examples": len(job.test.label),
        "label_histogram": histogram.tolist(),
        "label_skew": label_skew(histogram),
        "seed": job.config.seed,
        "device": f"{jax.device_count()} x {device.device_kind}",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


class _Record:
    """What the first process writes of a run: its lines, and its checkpoints."""

    def __init__(self, folder: Path, keeping: Keeping, track: Track):
        self.folder, self.seconds = folder, keeping.checkpoint_seconds
        self.track = track
        path = folder / folders.CHECKPOINTS
        self.checkpoints = Checkpoints(path, keep=keeping.checkpoints)
        self.last = time.monotonic()

    def open(self, start: Checkpoint) -> None:
        """There is something to go on from before there is anything on record."""
        if not self.checkpoints.rounds():
            self.checkpoints.save(start)
            self.checkpoints.wait()

    def add(self, stretch: Stretch, *, final: bool) -> None:
        """The lines first: a checkpoint is of rounds that are on record."""
        folders.append_lines(self.folder / folders.ROUNDS, stretch.rounds)
        folders.append_lines(self.folder / folders.METRICS, [stretch.line])
        self.track(stretch.line)
        if final or time.monotonic() - self.last >= self.seconds:
            self.checkpoints.save(stretch.reached)
            self.last = time.monotonic()


def _train(
    job: Job, start: Checkpoint, programs, record: _Record | None, console: Console
) -> None:
    """Trains to the end, or until asked to stop."""
    rounds, classes = job.config.rounds, job.train.num_classes
    shown = reporting(console, rounds, classes)
    with stop_requests(console.print) as asked, shown as report:
        for stretch in stretches(job, programs, start):
            signal = hosts.largest(asked())
            done = stretch.reached.round
            if record is not None:
                record.add(stretch, final=bool(signal) or done == rounds)
            report(stretch.line)
            if signal and done < rounds:
                raise Stopped(signal)


def _finish(job: Job, folder: Path) -> dict[str, Any]:
    """Pictures and summary of the whole record."""
    config, lines = job.config, folders.read_lines(folder / folders.METRICS)
    title = f"{config.title} on {config.data.name}, {config.data.partition}"
    draw_plots(folder / folders.PLOTS, title, lines)
    summary = _summary(job, lines)
    folders.write_text(folder / folders.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def run(
    job: Job,
    folder: Path,
    console: Console,
    keeping: Keeping,
    tracked: Tracking,
    *,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Runs a job and fills its folder; of several processes the first one writes.

    Args:
      job: as from `job.prepare`.
      folder: of the run, as allowed by `folder.check`; of one to go on with, as it is.
      console: where progress is shown.
      keeping: whether to go on, and how often checkpoints are taken.
      tracked: who else is told of the metrics.
      overwrite: replace an earlier run in the folder.

    Returns:
      The summary, of the first process.

    Raises:
      ValueError: if there is nothing sound to go on from, or to start from; or if
        another process has the folder.
      OSError: if something cannot be written; what was written stays.
      Diverged: if a loss is no longer finite; what was written stays.
      Stopped: if a signal asked for it; the run can go on later.
    """
    programs = programs_of(job)
    begun = keeping.resume and (folder / folders.CONFIG).exists()
    begun = bool(hosts.largest(begun and hosts.is_first()))
    with ExitStack() as stack:
        take = partial(_take, stack, folder, begun=begun, overwrite=overwrite)
        if begun:
            hosts.on_first(take)
        start = begin(job, programs, folder, resume=begun)
        if not begun:
            hosts.on_first(take)
        return _fill(job, programs, start, folder, console, keeping, tracked)


def _take(stack: ExitStack, folder: Path, *, begun: bool, overwrite: bool) -> None:
    """Has the folder until the stack is closed, made if need be, and cleared."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(folders.held(folder))
    if not begun:
        # Another process may have come and gone in the meantime.
        folders.check(folder, overwrite=overwrite)
        folders.clear(folder)


def _fill(
    job: Job,
    programs: Programs,
    start: Checkpoint,
    folder: Path,
    console: Console,
    keeping: Keeping,
    tracked: Tracking,
) -> dict[str, Any] | None:
    """Trains, and writes what comes of it, which only the first process does."""
    if not hosts.is_first():
        _train(job, start, programs, None, console)
        return None
    folders.write_text(folder / folders.CONFIG, to_json(job.config))
    if start.round:
        console.print(f"going on after round {start.round}")
    with tracking(tracked, folder, job.config, start.round) as track:
        record = _Record(folder, keeping, track)
        try:
            record.open(start)
            _train(job, start, programs, record, console)
        finally:
            record.checkpoints.close()
    return _finish(job, folder)
