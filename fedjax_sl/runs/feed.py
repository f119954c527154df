"""The training examples on the devices: all of them, or those of the next rounds.

A set that does not fit is streamed: the rounds of a call are divided into parts, and
while the devices compute one part, the host gathers the images of the next. Draws are
the same as with the whole set, and so are the batches, bit for bit; what is learned is
the same to the rounding of another compiled program.
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
      examples: a `Dataset`; or a `Window`, where they are streamed.
    """

    first: int
    count: int
    examples: Any


class Window(NamedTuple):
    """Some of n examples.

    Attributes:
      image: `[R, H, W, Ch]` of R examples.
      example: `[R]` int32, which of the n they are, ascending; n where a row is unused.
      label: `[n]` int32, of all.
    """

    image: jax.Array
    example: jax.Array
    label: jax.Array


Feed = Callable[[int, int], Iterator[Part]]
"""`feed(first, count)`: the parts of a call's rounds, in order."""


def resident(train: Dataset, place: Callable[[Any], Any]) -> Feed:
    """Feeds the whole set, which is put on the devices once."""
    placed = place(train)
    return lambda first, count: iter([Part(first, count, placed)])


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
      partition: of them.
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
    rows = min(int(mib * MIB / BUFFERS / train.image[0].nbytes), len(train.label))
    label = place(np.asarray(train.label, np.int32))

    @partial(jax.jit, out_shardings=label.sharding)
    def indices(first, count, label, partition):
        """Indices of the examples of `count` rounds, `[most, ...]`, then zeros."""

        def of_round(number):
            # Of the state only its round matters: the run is not that far yet.
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
            cohort, _ = drawn(
                algorithm,
                blank._replace(round=number),
                _unseen(label, train),
                partition,
                key=key,
                number=number,
                batch_size=batch_size,
            )
            return cohort.index.reshape(-1)

        # Of as many rounds as are asked for: a draw sorts all examples of a client.
        found = jax.eval_shape(of_round, first)
        nothing = jnp.zeros((most, *found.shape), found.dtype)
        return jax.lax.fori_loop(
            0, count, lambda n, x: x.at[n].set(of_round(first + n)), nothing
        )

    def window(needed: np.ndarray) -> Window:
        image = np.zeros((rows, *train.image.shape[1:]), train.image.dtype)
        image[: len(needed)] = train.image[needed]
        example = np.full(rows, len(train.label), np.int32)
        example[: len(needed)] = needed
        image, example = place((image, example))
        return Window(image, example, label)

    def of_rounds(first: int, count: int) -> np.ndarray:
        numbers = np.int32(first), np.int32(count)
        return np.asarray(indices(*numbers, label, partition))[:count]

    def next_part(found: np.ndarray, first: int) -> tuple[int, np.ndarray]:
        taken, needed = fitting(found, rows)
        if not taken:
            size = BUFFERS * len(needed) * train.image[0].nbytes / MIB
            raise InputError(
                f"stream_mib={mib}: expected at least {size:.3g}, for the images of "
                f"round {first}."
            )
        return taken, needed

    def feed(first: int, count: int) -> Iterator[Part]:
        found, done = of_rounds(first, count), 0
        while done < count:
            taken, needed = next_part(found[done:], first + done)
            yield Part(first + done, taken, window(needed))
            done += taken

    # Before a run's folder is touched.
    next_part(of_rounds(0, 1), 0)
    return feed


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


def _unseen(label: jax.Array, like: Dataset) -> Dataset:
    """The set as far as draws need it: with labels, and without images."""
    # Under jit no memory is taken for what nothing reads.
    image = jnp.zeros((len(label), *like.image.shape[1:]), like.image.dtype)
    return Dataset(
        image=image, label=label, name=like.name, class_names=like.class_names
    )


def reading(
    algorithm: Algorithm, examples: Any, like: Dataset
) -> tuple[Algorithm, Dataset]:
    """Returns the method that reads what a feed put on the devices, and its data set.

    Args:
      algorithm: the method.
      examples: of a `Part`.
      like: the whole set, of which shapes and names are used.
    """
    if not isinstance(examples, Window):
        return algorithm, examples
    return (
        algorithm._replace(draw=partial(_in_window, algorithm.draw, examples)),
        _unseen(examples.label, like),
    )


def _in_window(draw: Any, window: Window, *args: Any, **rest: Any) -> Cohort:
    """Draws a cohort, and points its indices at the rows of a window."""
    cohort = draw(*args, **rest)
    row = jnp.searchsorted(window.example, cohort.index).astype(cohort.index.dtype)
    # No index points to an unused row, whose label is that of the last example.
    label = jnp.take(window.label, window.example, mode="clip")
    examples = Examples(window.image, label, number=window.example)
    return cohort._replace(index=row, examples=examples)
