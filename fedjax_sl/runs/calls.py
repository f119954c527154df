"""Trains a run in calls of its program, between which it can be stopped."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from fedjax_sl.algorithm import RoundMetrics, State
from fedjax_sl.runs import distributed
from fedjax_sl.runs.programs import MOST_ROUNDS, Programs


CALL_SECONDS = 1.0
"""How long a call of a program may take, unless a round takes longer: a run can be
stopped between two calls."""


class Call(NamedTuple):
    """The result of a call of a program.

    Attributes:
      first: number of its first round.
      done: rounds done after it.
      rounds: metrics, on the host.
      views: `Evaluation` by name of the view, if its last round is one after which
        there is an evaluation.
      state: after it, on the devices; it is donated to the next call.
    """

    first: int
    done: int
    rounds: RoundMetrics
    views: dict[str, Any] | None
    state: State


def calls(
    programs: Programs,
    state: State,
    done: int,
    rounds: int,
    *,
    eval_every: int,
    stops: Sequence[int] = (),
) -> Iterator[Call]:
    """Trains call by call, each as long as `CALL_SECONDS` as far as can be told.

    How rounds are divided among calls does not change their results.

    Args:
      programs: of the run, or of several.
      state: where it is.
      done: rounds done.
      rounds: in all.
      eval_every: rounds between two evaluations.
      stops: every so many rounds a call ends, too.

    Yields:
      A `Call` each.
    """
    # A single round first: that call compiles, and its time says little.
    pace = 1
    while done < rounds:
        ends = [done - done % every + every for every in (eval_every, *stops)]
        # Processes measure different times, but have to run the same rounds.
        first, count = done, min(distributed.largest(pace), min(rounds, *ends) - done)
        started = time.monotonic()
        state, metrics = programs.advance(state, first, count)
        # A coarse clock may not have moved: no division by 0 below.
        took, done = max(time.monotonic() - started, 1e-6), done + count
        # At most doubled, so that one mismeasured call delays a stop by little.
        pace = max(1, min(int(count * CALL_SECONDS / took), 2 * pace, MOST_ROUNDS))
        evaluated = done == rounds or done % eval_every == 0
        views = jax.device_get(programs.views(state)) if evaluated else None
        yield Call(first=first, done=done, rounds=metrics, views=views, state=state)
