"""Many rounds as one compiled program, for any method."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Algorithm, Cohort, Draw, RoundMetrics, State
from fedjax_sl.checks import check_integer
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.evaluation import Evaluation, evaluate_views


INIT, DRAW, ROUND = range(3)
"""Purposes, folded into the key of the run."""


class History(NamedTuple):
    """Result of `simulate` at V evaluations.

    Attributes:
      rounds: `RoundMetrics`, leaves `[V, eval_every, ...]`.
      evaluation: `Evaluation` by name of the view, leaves `[V]`; "" is the global
        model.
    """

    rounds: RoundMetrics
    evaluation: dict[str, Evaluation]


def start(algorithm: Algorithm, key: jax.Array) -> State:
    """Initialises the state of a run from its key."""
    # A purpose of its own: no round may draw as the initial weights did.
    return algorithm.init(jax.random.fold_in(key, INIT))


def drawn(
    algorithm: Algorithm,
    state: State,
    dataset: Dataset,
    partition: Partition,
    key: jax.Array,
    *,
    number: Any,
    batch_size: int,
) -> tuple[Cohort, jax.Array]:
    """Draws the cohort of a round, and derives the round's key.

    Args:
      algorithm: the method.
      state: before the round.
      dataset: training examples.
      partition: of the examples.
      key: of the run.
      number: [] of the round.
      batch_size: B.

    Returns:
      The cohort and the key, as `algorithm.round` takes them.
    """
    cohort = algorithm.draw(
        # Without the round: the draw folds in period and epoch, which last longer.
        jax.random.fold_in(key, DRAW),
        dataset,
        partition,
        round=number,
        period=algorithm.period(state),
        batch_size=batch_size,
    )
    # The purpose first: by its number alone, round 1 would have the key of DRAW.
    return cohort, jax.random.fold_in(jax.random.fold_in(key, ROUND), number)


def run_rounds(
    algorithm: Algorithm,
    state: State,
    dataset: Dataset,
    partition: Partition,
    key: jax.Array,
    *,
    first: Any,
    rounds: int,
    batch_size: int,
) -> tuple[State, RoundMetrics]:
    """Runs rounds in one scan.

    Args:
      algorithm: the method.
      state: before the first of these rounds.
      dataset: training examples.
      partition: of the examples.
      key: of the run.
      first: [] number of the first of these rounds.
      rounds: number of rounds.
      batch_size: B.

    Returns:
      The state after them, and their metrics, leaves `[rounds, ...]`.
    """
    run_round = _one_round(algorithm, dataset, partition, key, batch_size=batch_size)
    # Numbered within the run: a resumed run draws what the whole one would.
    return jax.lax.scan(run_round, state, first + jnp.arange(rounds, dtype=jnp.int32))


def run_some_rounds(
    algorithm: Algorithm,
    state: State,
    dataset: Dataset,
    partition: Partition,
    key: jax.Array,
    *,
    first: jax.Array,
    count: jax.Array,
    most: int,
    batch_size: int,
) -> tuple[State, RoundMetrics]:
    """Runs rounds like `run_rounds`, but their number may be traced.

    Args:
      algorithm: the method.
      state: before the first of these rounds.
      dataset: training examples.
      partition: of the examples.
      key: of the run.
      first: [] int32, number of the first of these rounds.
      count: [] int32, number of rounds, 0 to `most`.
      most: the largest `count`.
      batch_size: B.

    Returns:
      The state after them, and their metrics, leaves `[most, ...]`, zeros from `count`
      on.
    """
    # Under jit it is traced once, for its shapes and for the loop.
    run_round = jax.jit(
        _one_round(algorithm, dataset, partition, key, batch_size=batch_size),
        inline=True,
    )
    shapes = jax.eval_shape(run_round, state, first)[1]
    # A loop of traced length cannot stack its outputs, as a scan does.
    nothing = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)

    def add(index, carry):
        state, metrics = carry
        state, new = run_round(state, first + index)
        # XLA updates the carry of a loop in place: no copy of `most` rows is made.
        return state, jax.tree.map(lambda x, y: x.at[index].set(y), metrics, new)

    # Calls of any length up to `most` share one program.
    return jax.lax.fori_loop(jnp.int32(0), count, add, (state, nothing))


def _one_round(algorithm, dataset, partition, key, *, batch_size):
    """Returns `run_round(state, number) -> (state, RoundMetrics)`."""

    def run_round(state, number):
        cohort, round_key = drawn(
            algorithm,
            state,
            dataset,
            partition,
            key=key,
            number=number,
            batch_size=batch_size,
        )
        return algorithm.round(state, cohort, round_key)

    return run_round


def simulate(
    algorithm: Algorithm,
    dataset: Dataset,
    partition: Partition,
    key: jax.Array,
    *,
    test: Dataset,
    rounds: int,
    batch_size: int,
    eval_every: int,
    draw: Draw | None = None,
) -> tuple[State, History]:
    """Runs a simulation as a pure function, which can be jitted and mapped.

    Args:
      algorithm: the method.
      dataset: training examples.
      partition: of the examples.
      key: the run's only source of randomness.
      test: examples to evaluate on.
      rounds: T, a multiple of `eval_every`.
      batch_size: B.
      eval_every: rounds between two evaluations.
      draw: replaces the method's own draw of cohorts.

    Returns:
      The final state and the history of V = T / eval_every evaluations.

    Raises:
      ValueError: if `eval_every` does not divide `rounds`, or data, partition and
        method do not match.
    """
    check_integer("rounds", rounds, 1)
    check_integer("eval_every", eval_every, 1)
    if rounds % eval_every:
        raise InputError(
            f"eval_every={eval_every}: expected a divisor of rounds={rounds}."
        )
    if draw is not None:
        algorithm = algorithm._replace(draw=draw)

    def segment(state, first):
        state, metrics = run_rounds(
            algorithm,
            state,
            dataset,
            partition,
            key=key,
            first=first,
            rounds=eval_every,
            batch_size=batch_size,
        )
        return state, History(metrics, evaluate_views(algorithm, state, test))

    firsts = jnp.arange(0, rounds, eval_every, dtype=jnp.int32)
    # Nested scans: one round and one evaluation are compiled, however many there are.
    return jax.lax.scan(segment, start(algorithm, key), firsts)
