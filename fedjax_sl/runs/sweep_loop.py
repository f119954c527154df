"""The runs of a sweep, trained side by side; each has a record to go on from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax

from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.loop import Programs
from fedjax_sl.runs.recorder import Record, clock
from fedjax_sl.runs.restore import cut_back, newest
from fedjax_sl.runs.side_by_side import row, side_by_side
from fedjax_sl.runs.signals import Stopped
from fedjax_sl.runs.sweep import alike


def _common_start(paths: Sequence[Path], shape: Any) -> list[Checkpoint]:
    """Checkpoints of the latest round that all of these runs have one of."""
    most = math.inf
    while True:
        found = [
            newest(path, shape, most=most) or Checkpoint(0, None, {}) for path in paths
        ]
        rounds = {one.round for one in found}
        if len(rounds) == 1:
            return found
        most = min(rounds)


def _train(
    programs: Programs,
    jobs: Sequence[Job],
    paths: Sequence[Path],
    due: Callable[[], bool],
    stop_signal: Callable[[], int],
) -> None:
    """Trains some runs at once to their end, from where their records end.

    Raises:
      Stopped: if a signal asked for it; the runs can go on later.
    """
    starts = _common_start(paths, programs.shape)
    for path, one in zip(paths, starts, strict=True):
        cut_back(path, one)
    with ExitStack() as stack:
        records = [stack.enter_context(closing(Record(path))) for path in paths]
        for some in side_by_side(programs, jobs, starts):
            signal, last = stop_signal(), some.done == jobs[0].config.rounds
            keep = not last and (due() or bool(signal))
            state = jax.device_get(some.state) if keep else None
            for number, stretch in enumerate(some.of_each):
                own = None if state is None else row(state, number)
                reached = stretch.reached._replace(state=own)
                records[number].add(stretch._replace(reached=reached), keep=keep)
            if signal and not last:
                raise Stopped(signal)


def train_all(
    prepared: Sequence[dict[int, Job]],
    folder: SweepFolder,
    at_a_time: int,
    checkpoint_seconds: float,
    stop_signal: Callable[[], int],
) -> Iterator[int]:
    """Trains every run of a sweep that the folder lacks.

    Args:
      prepared: jobs by number, as from `batch.jobs_of`.
      folder: of the sweep, which this process has.
      at_a_time: runs in a call of a program, at most.
      checkpoint_seconds: least time between two checkpoints of runs.
      stop_signal: the number of the signal that asked to stop, or 0.

    Yields:
      The number of each run that has come to its end, when it is in its place.

    Raises:
      OSError: if something cannot be written; what was written stays.
      Stopped: if a signal asked for it; the sweep can go on later.
    """
    for jobs in prepared:
        for number in [n for n in jobs if folder.is_complete(n)]:
            folder.finish(number)
            del jobs[number]
            yield number
    due = clock(checkpoint_seconds)
    for here in alike([jobs for jobs in prepared if jobs], at_a_time):
        begun = [n for n in here.jobs if folder.has_begun(n)]
        fresh = [n for n in here.jobs if n not in begun]
        for numbers in (*here.blocks(begun), *here.blocks(fresh)):
            if signal := stop_signal():
                raise Stopped(signal)
            jobs = [here.jobs[number] for number in numbers]
            paths = [folder.begin(n, here.jobs[n].config) for n in numbers]
            _train(here.programs(jobs), jobs, paths, due, stop_signal)
            for number in numbers:
                folder.finish(number)
                yield number
