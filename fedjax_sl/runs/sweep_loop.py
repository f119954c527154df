"""Trains the runs of a sweep together, each with a record to resume from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import jax

from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.records.data_file import Fingerprints, of_run, write_data
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.programs import Programs
from fedjax_sl.runs.recorder import Record, clock
from fedjax_sl.runs.restore import cut_back, newest
from fedjax_sl.runs.side_by_side import row, side_by_side
from fedjax_sl.runs.signals import Stopped
from fedjax_sl.runs.sweep import alike


def _common_start(paths: Sequence[Path], shape: Any) -> list[Checkpoint]:
    """Returns checkpoints of the latest round that all of these runs have."""
    # A program advances its runs together, so they have to start at the same round.
    most = math.inf
    while True:
        found = [
            newest(path, shape, most=most) or Checkpoint(0, None, {}) for path in paths
        ]
        rounds = {checkpoint.round for checkpoint in found}
        if len(rounds) == 1:
            return found
        # Ends at round 0 at the latest, where every run can start.
        most = min(rounds)


def _train(
    programs: Programs,
    jobs: Sequence[Job],
    paths: Sequence[Path],
    *,
    due: Callable[[], bool],
    stop_signal: Callable[[], int],
) -> None:
    """Trains some runs together to their end, resuming from their records.

    Raises:
      Stopped: on a signal; the runs can be resumed.
    """
    programs.ahead()
    starts = _common_start(paths, programs.shape)
    for path, start in zip(paths, starts, strict=True):
        cut_back(path, start)
    with ExitStack() as stack:
        records = [stack.enter_context(closing(Record(path))) for path in paths]
        for some in side_by_side(programs, jobs, starts):
            signal, last = stop_signal(), some.done == jobs[0].config.rounds
            # `SweepFolder.finish` would remove a last checkpoint at once.
            keep = not last and (due() or bool(signal))
            # Transferred once, for all runs.
            state = jax.device_get(some.state) if keep else None
            for number, segment in enumerate(some.of_each):
                own = None if state is None else row(state, number)
                reached = segment.reached._replace(state=own)
                records[number].add(segment._replace(reached=reached), keep=keep)
            # Not sooner: all records have to resume from the same round.
            if signal and not last:
                raise Stopped(signal)


@contextmanager
def _taken(folder: SweepFolder, numbers: Sequence[int]) -> Iterator[list[int]]:
    """Locks runs while the block trains them.

    Yields:
      Those of them that no other process has finished meanwhile.
    """
    with ExitStack() as stack:
        for number in numbers:
            stack.enter_context(folder.taken(number))
        yield [number for number in numbers if not folder.is_finished(number)]


def _fingerprints(prepared: Sequence[dict[int, Job]]) -> Fingerprints:
    """Returns those of the data of each run; the runs of a group share their data."""
    found: Fingerprints = {}
    for jobs in prepared:
        first = next(iter(jobs.values()))
        found |= dict.fromkeys(map(str, jobs), of_run(first.train, first.test))
    return found


def train_all(
    prepared: Sequence[dict[int, Job]],
    folder: SweepFolder,
    *,
    at_a_time: int,
    vmapped: int = 1,
    checkpoint_seconds: float,
    stop_signal: Callable[[], int],
) -> Iterator[int]:
    """Trains every run of a sweep that is not finished in its folder.

    Args:
      prepared: jobs by number, as from `sweep.jobs_of`.
      folder: folder of the sweep, locked by this process, or by those that train its
        parts.
      at_a_time: largest number of runs in a call of a program.
      vmapped: runs that a device computes at once.
      checkpoint_seconds: least time between two checkpoints, seconds.
      stop_signal: returns the number of the signal received, or 0.

    Yields:
      The number of each run, once its folder is complete.

    Raises:
      ValueError: if the data have changed since the sweep was started, or another
        process trains one of these runs.
      OSError: if something cannot be written; earlier writes stay.
      Stopped: on a signal; the sweep can be resumed.
    """
    found = _fingerprints(prepared)
    with folder.alone():
        write_data(folder.path, found)
    for jobs in prepared:
        # A process may have ended between a run's last line and `finish`.
        for number in [n for n in jobs if folder.is_complete(n)]:
            with _taken(folder, [number]) as left:
                for one in left:
                    folder.finish(one)
            del jobs[number]
            yield number
    due = clock(checkpoint_seconds)
    for here in alike([jobs for jobs in prepared if jobs], at_a_time, vmapped=vmapped):
        begun = [n for n in here.jobs if folder.has_begun(n)]
        fresh = [n for n in here.jobs if n not in begun]
        # Apart, since a fresh run would set the others back to round 0.
        for numbers in (*here.blocks(begun), *here.blocks(fresh)):
            if signal := stop_signal():
                raise Stopped(signal)
            with _taken(folder, numbers) as left:
                if left:
                    jobs = [here.jobs[number] for number in left]
                    paths = [folder.begin(n, here.jobs[n].config) for n in left]
                    programs = here.programs(jobs)
                    _train(programs, jobs, paths, due=due, stop_signal=stop_signal)
                for number in left:
                    folder.finish(number)
            yield from numbers
