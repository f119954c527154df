"""The training examples on the devices: all of them, or those of the next rounds.

A set that does not fit is streamed: the rounds of a call are divided into parts, and
while the devices compute one part, the host gathers the images of the next. Cohorts are
drawn once, ahead of the rounds, as from the whole set, so that batches are the same,
bit for bit; what is learned is the same to the rounding of another compiled program.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Algorithm, Cohort, Examples, State
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.simulation import drawn


BUFFERS = 2
"""Parts in memory at a time: one is computed with, and the next is on its way."""

MIB = 2**20


class Part(NamedTuple):
    """Rounds whose examples are on the devices.

    Attributes:
      first: number of the first of them.
      count: number of rounds.
      examples: as `Feed.reading` takes them.
    """

    first: int
    count: int
    examples: Any


class Window(NamedTuple):
    """The examples of some rounds, R of n.

    Attributes:
      data: the R examples.
      number: `[R]` int32, which of the n they are, ascending; n where a row is unused.
      cohorts: of the rounds from `first` on, leaves `[T, ...]`, without examples, their
        indices among the n.
      first: [] int32.
    """

    data: Dataset
    number: jax.Array
    cohorts: Cohort
    first: jax.Array | np.int32


class Feed(NamedTuple):
    """How the examples come to the devices.

    Attributes:
      parts: `parts(first, count)`: the rounds of a call, in order.
      reading: `reading(algorithm, examples)`: the method that reads those of a part,
        and its data set.
    """

    parts: Callable[[int, int], Iterator[Part]]
    reading: Callable[[Algorithm, Any], tuple[Algorithm, Dataset]]


def resident(train: Dataset, place: Callable[[Any], Any]) -> Feed:
    """Feeds the whole set, which is put on the devices once."""
    placed = place(train)
    return Feed(
        parts=lambda first, count: iter([Part(first, count, placed)]),
        reading=lambda algorithm, examples: (algorithm, examples),
    )


def streamed(
    algorithm: Algorithm,
    train: Dataset,
    partition: Partition,
    key: jax.Array,
    *,
    shape: State,
    batch_size: int,
    most: int,
    mib: float,
    place: Callable[[Any], Any],
) -> Feed:
    """Feeds the examples of some rounds at a time.

    Args:
      algorithm: the method; the period of its draws follows from `state.round`.
      train: the n examples, on the host or in a file that is mapped into memory.
      partition: of them, on the devices.
      key: of the run.
      shape: of the method's state.
      batch_size: B.
      most: rounds in a call, at most.
      mib: of memory on each device for images, of all parts together.
      place: puts arrays on the devices.

    Returns:
      The feed.

    Raises:
      ValueError: if the state has no `round`, or the images of a round do not fit.
    """
    if "round" not in getattr(shape, "_fields", ()):
        raise InputError(
            f"stream_mib={mib}: expected a method whose state has the number of its "
            "round, from which batches can be drawn ahead."
        )
    size = train.image[0].nbytes
    rows = min(int(mib * MIB / BUFFERS / size), len(train.label))
    draw = partial(_drawn, algorithm, train, shape, key=key, batch_size=batch_size)
    label = place(np.asarray(train.label, np.int32))
    ahead = jax.jit(partial(_ahead, draw, most), out_shardings=label.sharding)

    def next_part(index: np.ndarray, first: int) -> tuple[int, np.ndarray]:
        taken, needed = fitting(index, rows)
        if not taken:
            least = BUFFERS * len(needed) * size / MIB
            raise InputError(
                f"stream_mib={mib}: expected at least {least:.3g}, for the images of "
                f"round {first}."
            )
        return taken, needed

    def parts(first: int, count: int) -> Iterator[Part]:
        cohorts = ahead(np.int32(first), np.int32(count), label, partition)
        index, done = np.asarray(cohorts.index)[:count], 0
        while done < count:
            taken, needed = next_part(index[done:], first + done)
            data, number = place(_rows(train, needed, rows))
            window = Window(data, number, cohorts, np.int32(first))
            yield Part(first + done, taken, window)
            done += taken

    # Before a run's folder is touched.
    now = ahead(np.int32(0), np.int32(1), label, partition)
    next_part(np.asarray(now.index)[:1], 0)
    return Feed(parts, _reading)


def _drawn(
    algorithm: Algorithm,
    like: Dataset,
    shape: State,
    number: jax.Array,
    label: jax.Array,
    partition: Partition,
    *,
    key: jax.Array,
    batch_size: int,
) -> Cohort:
    """Draws the cohort of a round, without examples, before the run is that far."""
    # Of the state only its round matters, and under jit no memory is taken for images.
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    image = jnp.zeros((len(label), *like.image.shape[1:]), like.image.dtype)
    whole = Dataset(
        image=image, label=label, name=like.name, class_names=like.class_names
    )
    cohort, _ = drawn(
        algorithm,
        blank._replace(round=number),
        whole,
        partition,
        key=key,
        number=number,
        batch_size=batch_size,
    )
    return cohort._replace(examples=None)


def _ahead(
    draw: Callable[..., Cohort],
    most: int,
    first: jax.Array,
    count: jax.Array,
    label: jax.Array,
    partition: Partition,
) -> Cohort:
    """Draws the cohorts of `count` rounds, leaves `[most, ...]`, then zeros."""
    # Of as many rounds as are asked for: a draw sorts all examples of a client.
    shapes = jax.eval_shape(draw, first, label, partition)
    nothing = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)

    def add(n, cohorts):
        new = draw(first + n, label, partition)
        return jax.tree.map(lambda x, y: x.at[n].set(y), cohorts, new)

    return jax.lax.fori_loop(0, count, add, nothing)


def fitting(index: np.ndarray, rows: int) -> tuple[int, np.ndarray]:
    """Returns how many rounds need at most so many examples, and which.

    Args:
      index: `[T, ...]` indices of the examples of each round.
      rows: examples that fit.

    Returns:
      The number of rounds, and the indices of their examples, ascending; of the first
      round if not even that fits, and 0.
    """
    needed = np.unique(index[0])
    if len(needed) > rows:
        return 0, needed
    taken = 1
    for more in index[1:]:
        larger = np.union1d(needed, more)
        if len(larger) > rows:
            break
        taken, needed = taken + 1, larger
    return taken, needed


def _rows(train: Dataset, needed: np.ndarray, rows: int) -> tuple[Dataset, np.ndarray]:
    """Gathers some examples, and fills up to `rows` with zeros: data and numbers."""
    image = np.zeros((rows, *train.image.shape[1:]), train.image.dtype)
    label = np.zeros(rows, np.int32)
    image[: len(needed)] = train.image[needed]
    label[: len(needed)] = train.label[needed]
    number = np.full(rows, len(train.label), np.int32)
    number[: len(needed)] = needed
    data = Dataset(
        image=image, label=label, name=train.name, class_names=train.class_names
    )
    return data, number


def _reading(algorithm: Algorithm, window: Window) -> tuple[Algorithm, Dataset]:
    """Returns the method that takes its cohorts from a window, and the data there."""

    def draw(*_: Any, round: jax.Array, **__: Any) -> Cohort:
        cohort = jax.tree.map(lambda x: x[round - window.first], window.cohorts)
        row = jnp.searchsorted(window.number, cohort.index).astype(jnp.int32)
        data = window.data
        examples = Examples(data.image, data.label, number=window.number)
        return cohort._replace(index=row, examples=examples)

    return algorithm._replace(draw=draw), window.data
