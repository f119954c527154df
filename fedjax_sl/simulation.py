"""Many rounds as one compiled program; it never names a method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Algorithm, Cohort, Draw, RoundMetrics, State
from fedjax_sl.checks import check_integer
from fedjax_sl.data.cohort import normalize
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.errors import InputError


INIT, DRAW, ROUND = range(3)
"""Purposes, folded into the key of the run."""


class Evaluation(NamedTuple):
    """A model on a whole split.

    Attributes:
      accuracy: [] share of examples classified correctly.
      balanced_accuracy: [] the same, averaged over the classes that occur.
      loss: [] mean cross-entropy.
    """

    accuracy: jax.Array
    balanced_accuracy: jax.Array
    loss: jax.Array


class History(NamedTuple):
    """What `simulate` reports, at each of V evaluations.

    Attributes:
      rounds: `RoundMetrics`, leaves `[V, eval_every, ...]`.
      evaluation: `Evaluation` by name of the view, leaves `[V]`; "" is the model that
        the method delivers.
    """

    rounds: RoundMetrics
    evaluation: dict[str, Evaluation]


def start(algorithm: Algorithm, key: jax.Array) -> State:
    """The state before the first round, from the key of the run."""
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
    """The cohort of a round and the key of what is random in it.

    Args:
      algorithm: the method.
      state: before the round.
      dataset: training examples.
      partition: who owns which.
      key: of the run.
      number: [] of the round.
      batch_size: B.

    Returns:
      What `algorithm.round` takes beside the state.
    """
    cohort = algorithm.draw(
        jax.random.fold_in(key, DRAW),
        dataset,
        partition,
        round=number,
        period=algorithm.period(state),
        batch_size=batch_size,
    )
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
    """Rounds one after another in one scan.

    Args:
      algorithm: the method.
      state: before the first of these rounds.
      dataset: training examples.
      partition: who owns which.
      key: of the run.
      first: [] number of the first of these rounds.
      rounds: how many.
      batch_size: B.

    Returns:
      The state after them, and their metrics, leaves `[rounds, ...]`.
    """
    one = _one_round(algorithm, dataset, partition, key, batch_size)
    return jax.lax.scan(one, state, first + jnp.arange(rounds, dtype=jnp.int32))


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
    """As `run_rounds`, but how many rounds need not be known to compile it.

    Args:
      algorithm: the method.
      state: before the first of these rounds.
      dataset: training examples.
      partition: who owns which.
      key: of the run.
      first: [] int32, number of the first of these rounds.
      count: [] int32, how many, 0 to `most`.
      most: how many there may be.
      batch_size: B.

    Returns:
      The state after them, and their metrics, leaves `[most, ...]`, zeros from `count`
      on.
    """
    # Traced once, for its shapes and for the loop.
    one = jax.jit(
        _one_round(algorithm, dataset, partition, key, batch_size), inline=True
    )
    shapes = jax.eval_shape(one, state, first)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)

    def add(place, carry):
        state, metrics = carry
        state, new = one(state, first + place)
        return state, jax.tree.map(lambda x, y: x.at[place].set(y), metrics, new)

    return jax.lax.fori_loop(jnp.int32(0), count, add, (state, nothing))


def _one_round(algorithm, dataset, partition, key, batch_size):
    """`one(state, number) -> (state, RoundMetrics)`."""

    def one(state, number):
        cohort, round_key = drawn(
            algorithm,
            state,
            dataset,
            partition,
            key,
            number=number,
            batch_size=batch_size,
        )
        return algorithm.round(state, cohort, round_key)

    return one


def evaluate(
    predict: Callable[[State, jax.Array], jax.Array],
    state: State,
    dataset: Dataset,
    *,
    batch_size: int = 500,
) -> Evaluation:
    """Accuracy and loss over a whole split, batch by batch.

    Args:
      predict: `predict(state, images) -> logits`.
      state: the state.
      dataset: n examples.
      batch_size: images at a time.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: if the model tells fewer classes apart than there are.
    """
    size, classes = len(dataset.label), dataset.num_classes
    batch_size = min(batch_size, size)
    steps = -(-size // batch_size)
    place = jnp.arange(steps * batch_size).reshape(steps, batch_size)
    images = jnp.asarray(dataset.image)
    labels = jnp.asarray(dataset.label, jnp.int32)

    def one(sums, index):
        real = (index < size).astype(jnp.float32)
        index = jnp.minimum(index, size - 1)
        label = labels[index]
        logits = predict(state, normalize(images[index]))
        if logits.shape[-1] < classes:
            raise InputError(
                f"{classes} classes: expected at most {logits.shape[-1]}, as the model "
                "tells apart."
            )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        hits = (logits.argmax(axis=-1) == label) * real
        new = (
            jnp.zeros(classes).at[label].add(hits),
            jnp.zeros(classes).at[label].add(real),
            (losses * real).sum(),
        )
        return jax.tree.map(jnp.add, sums, new), None

    zero = (jnp.zeros(classes), jnp.zeros(classes), jnp.float32(0))
    (hits, seen, loss), _ = jax.lax.scan(one, zero, place)
    recall = hits / jnp.maximum(seen, 1.0)
    present = jnp.maximum((seen > 0).sum(), 1)
    return Evaluation(hits.sum() / size, recall.sum() / present, loss / size)


def evaluate_views(
    algorithm: Algorithm, state: State, dataset: Dataset
) -> dict[str, Evaluation]:
    """`evaluate` for the delivered model, under "", and for every further view."""
    views = {"": algorithm.predict, **algorithm.views}
    return {name: evaluate(predict, state, dataset) for name, predict in views.items()}


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
    """A whole run as a pure function: it can be jitted, and mapped over settings.

    Args:
      algorithm: the method.
      dataset: training examples.
      partition: who owns which.
      key: the run's only source of randomness.
      test: examples to evaluate on.
      rounds: T, a multiple of `eval_every`.
      batch_size: B.
      eval_every: rounds between two evaluations.
      draw: how a cohort is drawn, if not as the method does.

    Returns:
      The final state and the history of V = T / eval_every evaluations.

    Raises:
      ValueError: if `eval_every` does not divide `rounds`, or data, partition and
        method do not suit each other.
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
            key,
            first=first,
            rounds=eval_every,
            batch_size=batch_size,
        )
        return state, History(metrics, evaluate_views(algorithm, state, test))

    firsts = jnp.arange(0, rounds, eval_every, dtype=jnp.int32)
    return jax.lax.scan(segment, start(algorithm, key), firsts)
