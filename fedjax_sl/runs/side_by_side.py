"""Trains several runs in one program, each with the record of a single run."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from fedjax_sl.algorithm import State
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.calls import calls
from fedjax_sl.runs.programs import Programs
from fedjax_sl.runs.segments import Segment, segment_of, totals_of


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
    # Runs of a sweep have no checkpoint of round 0: they are initialised again.
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
