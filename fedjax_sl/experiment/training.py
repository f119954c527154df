"""A job from one evaluation to the next, in compiled programs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import RoundMetrics, State
from fedjax_sl.experiment.checkpoint import Checkpoint
from fedjax_sl.experiment.job import Job
from fedjax_sl.experiment.metrics import Totals, round_lines
from fedjax_sl.federation import clients
from fedjax_sl.federation.faults import punctual
from fedjax_sl.simulation import evaluate_views, run_rounds, start


class Diverged(Exception):
    """No client's loss is a number any more; the message names the round."""


class Programs(NamedTuple):
    """What a run calls.

    Attributes:
      shape: the state's shapes and dtypes.
      initial: `initial() -> state` before the first round.
      place: `place(state)` puts one from the host where the others expect it.
      advance: `advance(state, first, rounds) -> (state, RoundMetrics)`; the state that
        was given is gone.
      views: `views(state) -> Evaluation` by name of the view.
    """

    shape: State
    initial: Callable[[], State]
    place: Callable[[State], State]
    advance: Callable[[State, int, int], tuple[State, RoundMetrics]]
    views: Callable[[State], dict[str, Any]]


def programs_of(job: Job) -> Programs:
    """The programs of a job, compiled when first called.

    State is kept whole on every device between two calls, so that each program is
    compiled once.
    """
    algorithm, key = job.method.algorithm, jax.random.key(job.config.seed)
    everywhere = jax.sharding.NamedSharding(
        clients.mesh(job.method.devices), jax.sharding.PartitionSpec()
    )

    def place(tree):
        whole = partial(jax.make_array_from_process_local_data, everywhere)
        return jax.tree.map(whole, tree)

    def segment(state, train, partition, in_time, first, rounds):
        return run_rounds(
            punctual(algorithm, in_time),
            state,
            train,
            partition,
            key,
            first=first,
            rounds=rounds,
            batch_size=job.config.batch_size,
        )

    train, test, partition = place((job.train, job.test, job.partition))
    in_time = place(job.in_time)
    advance = jax.jit(
        segment,
        static_argnames="rounds",
        donate_argnames="state",
        out_shardings=everywhere,
    )
    views = jax.jit(
        lambda state, test: evaluate_views(algorithm, state, test),
        out_shardings=everywhere,
    )
    initial = partial(start, algorithm, key)
    return Programs(
        shape=jax.eval_shape(initial),
        initial=jax.jit(initial, out_shardings=everywhere),
        place=place,
        advance=lambda state, first, rounds: advance(
            state, train, partition, in_time, first, rounds=rounds
        ),
        views=lambda state: views(state, test),
    )


class Stretch(NamedTuple):
    """The rounds up to an evaluation.

    Attributes:
      line: of metrics.jsonl.
      rounds: lines of rounds.jsonl.
      reached: the run after them, its state still on the devices.
    """

    line: dict[str, Any]
    rounds: list[dict[str, Any]]
    reached: Checkpoint


def _check_losses(rounds: RoundMetrics, first: int) -> None:
    """Refuses to go on where no client of a round has a loss."""
    lost = np.flatnonzero(~np.isfinite(rounds.loss).any(axis=1))
    if len(lost):
        late = lost[0]
        raise Diverged(
            f"round {first + late}, client {rounds.client_id[late, 0]} and all others: "
            f"the loss is {rounds.loss[late, 0]}; a smaller learning rate may help."
        )


def stretches(job: Job, programs: Programs, begin: Checkpoint) -> Iterator[Stretch]:
    """Trains from one evaluation to the next.

    Args:
      job: the run.
      programs: its.
      begin: where it is, the state on the devices.

    Yields:
      A stretch each; its state is gone when the next is asked for.

    Raises:
      Diverged: if a loss is no longer finite.
    """
    config, every = job.config, job.config.eval_every
    totals = Totals(
        job.test,
        steps=job.method.steps,
        epochs=config.epochs_per_round(len(job.train.label)),
        channel=config.channel,
        in_turn=config.in_turn,
        so_far=begin.totals,
    )
    done, state = begin.round, begin.state
    while done < config.rounds:
        count = min(every - done % every, config.rounds - done)
        state, rounds = programs.advance(state, done, count)
        rounds, views = jax.device_get((rounds, programs.views(state)))
        # Corrupted messages of all clients leave the model as it was.
        if config.corruption_probability == 0 or not np.isfinite(views[""].loss):
            _check_losses(rounds, done)
        line = totals.line(done + count, rounds, views)
        lines, done = round_lines(done, rounds), done + count
        yield Stretch(line, lines, Checkpoint(done, state, totals.so_far()))
