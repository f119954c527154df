"""Several runs at once, each with the lines that it would have alone."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from fedjax_sl.algorithm import State
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.loop import Programs, segments
from fedjax_sl.runs.segments import Stretch, stretch_of, totals_of
from fedjax_sl.runs.sweep import alike, jobs_of


class Stretches(NamedTuple):
    """What goes on record of some rounds of several runs.

    Attributes:
      done: rounds done after them.
      of_each: a stretch of each run, without its state.
      state: of all runs, leaves `[P, ...]`, gone when the next are asked for.
    """

    done: int
    of_each: list[Stretch]
    state: State


def row(tree: Any, number: int) -> Any:
    """One of stacked trees."""
    return jax.tree.map(lambda x: x[number], tree)


def side_by_side(
    programs: Programs, jobs: Sequence[Job], starts: Sequence[Checkpoint]
) -> Iterator[Stretches]:
    """Trains some runs at once to their end.

    Args:
      programs: theirs, as from `batch.alike`.
      jobs: the runs.
      starts: where each of them is, all at the same round.

    Yields:
      What goes on record, segment by segment. The runs of a program end together, so
      that metrics tell no `wall_seconds`.
    """
    config, done = jobs[0].config, starts[0].round
    state = programs.place([one.state for one in starts]) if done else None
    totals = [totals_of(job, one) for job, one in zip(jobs, starts, strict=True)]
    found = segments(
        programs,
        programs.initial() if state is None else state,
        done,
        config.rounds,
        eval_every=config.eval_every,
    )
    for segment in found:
        of_each = []
        for number, sums in enumerate(totals):
            rounds, views = row((segment.rounds, segment.views), number)
            own = segment._replace(rounds=rounds, views=views, state=None)
            of_each.append(stretch_of(sums, own))
            if (line := of_each[-1].line) is not None:
                del line["wall_seconds"]
        yield Stretches(segment.done, of_each, segment.state)


class Outcome(NamedTuple):
    """The record of one run of many.

    Attributes:
      config: the run's, with nothing left open.
      lines: of metrics.jsonl.
      rounds: of rounds.jsonl.
    """

    config: RunConfig
    lines: list[dict[str, Any]]
    rounds: list[dict[str, Any]]


def outcomes(
    configs: Sequence[RunConfig], *, at_a_time: int | None = None
) -> Iterator[tuple[int, Outcome]]:
    """Runs every configuration, those alike in one program, and keeps no folder.

    Args:
      configs: of the runs.
      at_a_time: runs in a call of a program; as many as there are devices if not given.

    Returns:
      An iterator over places of runs among `configs` and their outcomes, as they come.

    Raises:
      ValueError: if something asked for is out of range or cannot be had; at once,
        before anything has run.
    """
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
                for record, stretch in zip(records, some.of_each, strict=True):
                    record.rounds.extend(stretch.rounds)
                    record.lines.extend([stretch.line] if stretch.line else [])
            yield from zip(numbers, records, strict=True)
