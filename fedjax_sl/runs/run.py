"""One run, from a job to its finished folder: open, restore, train, record, finish."""

import json
import platform
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import jax
from rich.console import Console

from fedjax_sl.configs.serialization import to_json
from fedjax_sl.data.skew import label_histogram, label_skew
from fedjax_sl.extras import lacking
from fedjax_sl.federation.cpu import bf16_instructions
from fedjax_sl.records import disk, opening
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.records.data_file import RUN, of_run, write_data
from fedjax_sl.runs import distributed
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.forecast import forecasting
from fedjax_sl.runs.headline import headline
from fedjax_sl.runs.plots import draw as draw_plots
from fedjax_sl.runs.programs import Programs, programs_of
from fedjax_sl.runs.progress import reporting
from fedjax_sl.runs.recorder import Keeping, Record, clock
from fedjax_sl.runs.restore import begin
from fedjax_sl.runs.segments import segments
from fedjax_sl.runs.signals import Stopped, stop_requests
from fedjax_sl.runs.tracking import Track, Tracking, tracking


def run(
    job: Job,
    folder: Path,
    *,
    console: Console,
    keeping: Keeping,
    tracked: Tracking,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Runs a job and fills its folder; of several processes the first one writes.

    Args:
      job: as from `build.prepare`.
      folder: of the run, as allowed by `opening.check`; of one to resume, as it is.
      console: where progress is shown.
      keeping: whether to resume, and how often checkpoints are taken.
      tracked: other tools that receive the metrics.
      overwrite: replace an earlier run in the folder.

    Returns:
      The summary, of the first process.

    Raises:
      ValueError: if there is no valid checkpoint to resume from, or to start from; if
        another process has the folder, or the data of a run to resume have changed.
      OSError: if something cannot be written; what was written stays.
      Diverged: if a loss is no longer finite; what was written stays.
      Stopped: if a signal requested it; the run can be resumed later.
    """
    console.print(headline(job), soft_wrap=True)
    for sentence in job.method.warnings:
        console.print(f"warning: {sentence}", soft_wrap=True)
    rounds, classes = job.config.rounds, job.train.num_classes
    programs = forecasting(programs_of(job), rounds, console.print)
    # Unwound in reverse: the record is closed while its folder is still locked.
    with ExitStack() as stack:
        start, record = _open(
            stack, job, programs, folder, keeping=keeping, overwrite=overwrite
        )
        if start.round:
            console.print(f"resuming after round {start.round}")
        track = stack.enter_context(_tracked(record, tracked, job, start.round))
        signal_of = stack.enter_context(stop_requests(console.print))
        warmup = job.config.warmup_rounds
        reports = reporting(console, rounds, classes, warmup_rounds=warmup)
        report = stack.enter_context(reports)
        due = clock(keeping.checkpoint_seconds)
        for segment in segments(job, programs, start, keeping.stops):
            # A process alone that stopped would leave the others waiting for it.
            signal = distributed.largest(signal_of())
            last = segment.reached.round == rounds
            if record is not None:
                record.add(segment, keep=bool(signal) or last or due())
            if segment.line is not None:
                track(segment.line)
                report(segment.line)
            if signal and not last:
                _stop(record, console, signal)
        if record is None:
            return None
        # It is written in the background: if it fails, there must be no summary.
        record.checkpoints.wait()
        return _finish(job, folder, console)


def _open(
    stack: ExitStack,
    job: Job,
    programs: Programs,
    folder: Path,
    *,
    keeping: Keeping,
    overwrite: bool,
) -> tuple[Checkpoint, Record | None]:
    """Locks the folder, and finds where the run starts.

    Returns:
      The checkpoint that it starts from; and its record, of the first process.
    """
    begun = keeping.resume and (folder / folders.CONFIG).exists()
    # The first process's disk decides: the others may not have the folder.
    begun = bool(distributed.largest(begun and distributed.is_first()))
    if begun:  # before it is read, so that nobody adds to it meanwhile
        distributed.on_first(partial(_lock, stack, folder))
        distributed.on_first(partial(_keep_data, job, folder))
    fresh = not begun and job.config.init_from is None
    if fresh:
        # What takes longest begins first: the initial state needs another program.
        programs.ahead()
    # Before an earlier run is set aside: `init_from` may be that very folder.
    start = begin(job, programs, folder, resume=begun)
    if not fresh and start.round < job.config.rounds:
        # Not before: a source of models may be refused, and a run have ended.
        programs.ahead()

    def make_record() -> Record:
        if begun:
            return _begin_record(job, folder, keeping, start)
        _lock(stack, folder)
        # Another process may have come and gone in the meantime.
        opening.check(folder, overwrite=overwrite, resume=keeping.resume)
        with opening.replacing(folder):
            _keep_data(job, folder)
            return _begin_record(job, folder, keeping, start)

    record = distributed.on_first(make_record)
    if record is not None:
        stack.callback(record.close)
    return start, record


def _lock(stack: ExitStack, folder: Path) -> None:
    """Keeps the folder, made if need be, until the stack is closed."""
    with disk.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(folders.held(folder))


def _keep_data(job: Job, folder: Path) -> None:
    """Notes which data a run has, or refuses others than it was started with."""
    write_data(folder, {RUN: of_run(job.train, job.test)})


def _begin_record(
    job: Job, folder: Path, keeping: Keeping, start: Checkpoint
) -> Record:
    """The record of a run, with its configuration and a checkpoint to resume from."""
    # Also when resuming: `rounds` may have grown.
    folders.write_text(folder / folders.CONFIG, to_json(job.config))
    record = Record(folder, keeping, folders.resume_lines(folder / folders.METRICS))
    try:
        record.open(start)
    except BaseException:
        # The caller has no record yet that it could close.
        record.close()
        raise
    return record


def _tracked(
    record: Record | None, tracked: Tracking, job: Job, done: int
) -> AbstractContextManager[Track]:
    """Tracking by the first process alone."""
    if record is None:
        return nullcontext(lambda line: None)
    return tracking(tracked, record.folder, job.config, done)


def _stop(record: Record | None, console: Console, signal: int) -> NoReturn:
    """Ends the run, its last checkpoint on disk, and says how it is resumed."""
    if record is not None:
        record.checkpoints.wait()
        console.print(
            f"stopped after round {record.checkpoints.rounds()[-1]}; resume it "
            f"with --folder {record.folder} --resume",
            soft_wrap=True,
        )
    raise Stopped(signal)


def _finish(job: Job, folder: Path, console: Console) -> dict[str, Any]:
    """Draws the plots, if Matplotlib is installed, and sums up the whole record."""
    config, lines = job.config, folders.read_lines(folder / folders.METRICS)
    title = f"{config.title} on {config.on_data}"
    if sentence := lacking("matplotlib", "plots are left out: they need"):
        console.print(sentence, soft_wrap=True)
    else:
        with disk.writing(folder / folders.PLOTS):
            (folder / folders.PLOTS).mkdir(exist_ok=True)
            draw_plots(folder / folders.PLOTS, title, lines)
    # Last: there is no summary before a run has ended.
    summary = _summary(job, lines)
    folders.write_text(folder / folders.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


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
        "cpu_bf16": bf16_instructions() if device.platform == "cpu" else None,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }
