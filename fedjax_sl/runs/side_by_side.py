"""Trains several runs in one program, each with the record of a single run."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from fedjax_sl.algorithm import State
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.loop import Programs, calls
from fedjax_sl.runs.segments import Segment, segment_of, totals_of
from fedjax_sl.runs.sweep import alike, jobs_of


class Segments(NamedTuple):
    """A segment of several runs, as it is recorded.

    Attributes:
      done: rounds done at its end.
      of_each: the `Segment` of each run, without its state.
      state: state of all runs, leaves `[P, ...]`; invalid once the next is requested.
    """

    done: int
    of_each: list[Segment]
    state: State


def row(tree: Any, number: int) -> Any:
    """Returns one of stacked trees."""
    return jax.tree.map(lambda x: x[number], tree)


def side_by_side(
    programs: Programs, jobs: Sequence[Job], starts: Sequence[Checkpoint]
) -> Iterator[Segments]:
    """Trains some runs together to their end.

    Args:
      programs: programs of the runs, as from `sweep.alike`.
      jobs: the runs.
      starts: checkpoint of each run, all of the same round.

    Yields:
      `Segments`, segment by segment. Their metrics have no `wall_seconds`.
    """
    config, done = jobs[0].config, starts[0].round
    state = programs.place([start.state for start in starts]) if done else None
    totals = [totals_of(job, start) for job, start in zip(jobs, starts, strict=True)]
    found = calls(
        programs,
        programs.initial() if state is None else state,
        done,
        config.rounds,
        eval_every=config.eval_every,
    )
    for call in found:
        of_each = []
        for number, sums in enumerate(totals):
            rounds, views = row((call.rounds, call.views), number)
            own = call._replace(rounds=rounds, views=views, state=None)
            of_each.append(segment_of(sums, own))
            # Runs of one program have no wall time of their own.
            if (line := of_each[-1].line) is not None:
                del line["wall_seconds"]
        yield Segments(call.done, of_each, call.state)


class Outcome(NamedTuple):
    """The record of one run of many.

    Attributes:
      config: resolved configuration of the run.
      lines: lines of metrics.jsonl.
      rounds: lines of rounds.jsonl.
    """

    config: RunConfig
    lines: list[dict[str, Any]]
    rounds: list[dict[str, Any]]


def outcomes(
    configs: Sequence[RunConfig], *, at_a_time: int | None = None
) -> Iterator[tuple[int, Outcome]]:
    """Runs every configuration in as few programs as possible, without a folder.

    Args:
      configs: configurations of the runs.
      at_a_time: runs in a call of a program; the number of devices if not given.

    Returns:
      An iterator over indices into `configs` and outcomes, in the order they finish.

    Raises:
      ValueError: if a value is out of range or data cannot be loaded; raised before
        anything runs.
    """
    # Not in the generator, which would raise errors only when it is consumed.
    prepared = jobs_of(dict(enumerate(configs)))
    return _run_all(prepared, at_a_time or jax.device_count())


def _run_all(
    prepared: Sequence[dict[int, Job]], at_a_time: int
) -> Iterator[tuple[int, Outcome]]:
    for here in alike(prepared, at_a_time):
        for numbers in here.blocks(list(here.jobs)):
            jobs = [here.jobs[number] for number in numbers]
            records = [Outcome(job.config, [], []) for job in jobs]
            starts = [Checkpoint(0, None, {})] * len(jobs)
            for some in side_by_side(here.programs(jobs), jobs, starts):
                for record, segment in zip(records, some.of_each, strict=True):
                    record.rounds.extend(segment.rounds)
                    record.lines.extend([segment.line] if segment.line else [])
            yield from zip(numbers, records, strict=True)
