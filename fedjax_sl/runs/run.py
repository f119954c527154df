"""One run, from a job to its finished folder."""

import json
import platform
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_sl.configs.serialization import to_json
from fedjax_sl.data.partition import label_histogram, label_skew
from fedjax_sl.records import disk, opening
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.runs import distributed
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.loop import Programs, programs_of
from fedjax_sl.runs.plots import draw as draw_plots
from fedjax_sl.runs.progress import reporting
from fedjax_sl.runs.recorder import Keeping, Record, clock
from fedjax_sl.runs.restore import begin
from fedjax_sl.runs.segments import stretches
from fedjax_sl.runs.signals import Stopped, stop_requests
from fedjax_sl.runs.tracking import Track, Tracking, tracking


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


def _train(
    job: Job,
    programs: Programs,
    start: Checkpoint,
    record: Record | None,
    keeping: Keeping,
    track: Track,
    console: Console,
) -> None:
    """Trains to the end, or until asked to stop."""
    rounds, due = job.config.rounds, clock(keeping.checkpoint_seconds)
    shown = reporting(console, rounds, job.train.num_classes)
    with stop_requests(console.print) as stop_signal, shown as report:
        for stretch in stretches(job, programs, start, keeping.stops):
            signal, done = distributed.largest(stop_signal()), stretch.reached.round
            if record is not None:
                record.add(stretch, keep=bool(signal) or done == rounds or due())
            if stretch.line is not None:
                track(stretch.line)
                report(stretch.line)
            if signal and done < rounds:
                raise Stopped(signal)


def _finish(job: Job, folder: Path) -> dict[str, Any]:
    """Pictures and summary of the whole record."""
    config, lines = job.config, folders.read_lines(folder / folders.METRICS)
    title = f"{config.title} on {config.data.name}, {config.data.partition}"
    with disk.writing(folder / folders.PLOTS):
        (folder / folders.PLOTS).mkdir(exist_ok=True)
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
      folder: of the run, as allowed by `opening.check`; of one to go on with, as it is.
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
    begun = bool(distributed.largest(begun and distributed.is_first()))
    with ExitStack() as stack:
        if begun:
            distributed.on_first(partial(_hold, stack, folder))
        start = begin(job, programs, folder, resume=begun)

        def make_record() -> Record:
            if begun:
                return _opened(job, folder, keeping, start)
            _hold(stack, folder)
            # Another process may have come and gone in the meantime.
            opening.check(folder, overwrite=overwrite, resume=keeping.resume)
            with opening.replacing(folder):
                return _opened(job, folder, keeping, start)

        record = distributed.on_first(make_record)
        if record is None:
            _train(job, programs, start, None, keeping, lambda line: None, console)
            return None
        stack.callback(record.close)
        _train_on_record(job, programs, start, record, tracked, console)
        return _finish(job, folder)


def _train_on_record(
    job: Job,
    programs: Programs,
    start: Checkpoint,
    record: Record,
    tracked: Tracking,
    console: Console,
) -> None:
    """Trains, tells those who track, and says where it stopped if it was asked to."""
    folder, keeping = record.folder, record.keeping
    if start.round:
        console.print(f"going on after round {start.round}")
    try:
        with tracking(tracked, folder, job.config, start.round) as track:
            _train(job, programs, start, record, keeping, track, console)
        record.checkpoints.wait()
    except Stopped:
        record.checkpoints.wait()
        console.print(
            f"stopped after round {record.checkpoints.rounds()[-1]}; the same with "
            f"--folder {folder} --resume goes on",
            soft_wrap=True,
        )
        raise


def _hold(stack: ExitStack, folder: Path) -> None:
    """Has the folder until the stack is closed, made if need be."""
    with disk.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(folders.held(folder))


def _opened(job: Job, folder: Path, keeping: Keeping, start: Checkpoint) -> Record:
    """The record of a run, with its configuration and a checkpoint to go on from."""
    folders.write_text(folder / folders.CONFIG, to_json(job.config))
    record = Record(folder, keeping, folders.resume_lines(folder / folders.METRICS))
    try:
        record.open(start)
    except BaseException:
        record.close()
        raise
    return record
