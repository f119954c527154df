"""The compiled programs of a job."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Algorithm, RoundMetrics, State
from fedjax_sl.data.partition import Partition
from fedjax_sl.evaluation import evaluate_views
from fedjax_sl.federation.cpu import compiled_for_one_run
from fedjax_sl.federation.devices import mesh
from fedjax_sl.federation.faults import without_stragglers
from fedjax_sl.federation.stores import HOST
from fedjax_sl.runs.ahead import Ahead, shaped
from fedjax_sl.runs.arguments import arguments_of
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.feed import Feed, resident, streamed
from fedjax_sl.simulation import run_some_rounds, start


MOST_ROUNDS = 100
"""Rounds in a call, at most."""


class Programs(NamedTuple):
    """Compiled programs that train one run, or several at once.

    Attributes:
      shape: the state's shapes and dtypes, of one run.
      initial: `initial() -> state` before the first round.
      place: `place(state)` puts one from the host where the others expect it.
      advance: `advance(state, first, count) -> (state, RoundMetrics)`, of at most
        `MOST_ROUNDS` rounds, the metrics on the host; the state that was given is gone.
      views: `views(state) -> Evaluation` by name of the view.
      ahead: `ahead()` starts to compile `advance` and `views`, while others go on.
    """

    shape: State
    initial: Callable[[], State]
    place: Callable[[State], State]
    advance: Callable[[State, int, int], tuple[State, RoundMetrics]]
    views: Callable[[State], dict[str, Any]]
    ahead: Callable[[], None] = lambda: None


def _shardings(shape: State, everywhere: Any, on_host: Sequence[str]) -> State:
    """Returns the sharding of each leaf of a state, of some fields on the host."""
    found = jax.tree.map(lambda _: everywhere, shape)
    for name in on_host:
        there = jax.tree.map(
            lambda _: everywhere.with_memory_kind(HOST), getattr(shape, name)
        )
        found = found._replace(**{name: there})
    return found


def _feed_of(
    job: Job, shape: State, partition: Partition, place: Callable[[Any], Any]
) -> Feed:
    """Puts the training examples on the devices, or streams them there."""
    if job.config.stream_mib is None:
        return resident(job.train, place)
    return streamed(
        job.method.algorithm,
        job.train,
        partition,
        jax.random.key(job.config.seed),
        shape=shape,
        batch_size=job.config.batch_size,
        most=MOST_ROUNDS,
        mib=job.config.stream_mib,
        place=place,
    )


def _advance(
    program: Callable[..., Any], feed: Feed, data: Any
) -> Callable[[State, int, int], tuple[State, RoundMetrics]]:
    """Returns the function that runs a program over the parts of a call."""

    def advance(state, first, count):
        found = []
        for part in feed.parts(first, count):
            numbers = np.int32(part.first), np.int32(part.count)
            state, metrics = program(state, part.examples, data, *numbers)
            # The next part is gathered while this one is computed, and no third one.
            jax.block_until_ready([before for before, _ in found[-1:]])
            found.append((metrics, part.count))
        # To the host at once: this waits for the program, which `calls` times.
        parts = [jax.tree.map(lambda x, n=n: np.asarray(x)[:n], m) for m, n in found]
        return state, jax.tree.map(lambda *x: np.concatenate(x), *parts)

    return advance


def _rounds_of(
    job: Job, feed: Feed, algorithm_of: Callable[[Any], Algorithm]
) -> Callable[..., tuple[State, RoundMetrics]]:
    """Returns the program that trains some rounds, before it is compiled."""

    def some_rounds(state, examples, data, first, count):
        numbers, partition, in_time, seed = data
        method, train = feed.reading(algorithm_of(numbers), examples)
        # Metrics have one shape, since one that followed `count` would recompile.
        return run_some_rounds(
            without_stragglers(method, in_time),
            state,
            train,
            partition,
            key=jax.random.key(seed),
            first=first,
            count=count,
            most=MOST_ROUNDS,
            batch_size=job.config.batch_size,
        )

    return some_rounds


def programs_of(job: Job) -> Programs:
    """The programs of a job, compiled when first called.

    State is kept whole on every device between two calls, so that each program is
    compiled once.
    """
    seed, (numbers, algorithm_of) = np.uint32(job.config.seed), arguments_of(job)
    everywhere = jax.sharding.NamedSharding(
        mesh(job.method.devices), jax.sharding.PartitionSpec()
    )

    def initial(numbers, seed):
        return start(algorithm_of(numbers), jax.random.key(seed))

    shape = jax.eval_shape(initial, numbers, seed)
    of_state = _shardings(shape, everywhere, job.method.algorithm.on_host)
    # Replicated: what a process has locally is the whole array.
    whole = jax.make_array_from_process_local_data
    place = partial(jax.tree.map, partial(whole, everywhere))

    # Arguments of the programs: closed over, they would be constants in each, and a run
    # with another seed or rate would find none of them compiled.
    test, partition, in_time = place((job.test, job.partition, job.in_time))
    data = numbers, partition, in_time, seed
    feed = _feed_of(job, shape, partition, place)
    begin = jax.jit(
        initial, out_shardings=of_state, compiler_options=compiled_for_one_run()
    )
    # Donated, so that the old and the new state share memory.
    program = jax.jit(
        _rounds_of(job, feed, algorithm_of),
        donate_argnames="state",
        out_shardings=(of_state, everywhere),
    )
    views = jax.jit(
        lambda numbers, state, test: evaluate_views(algorithm_of(numbers), state, test),
        out_shardings=everywhere,
    )
    rounds, evaluation = Ahead(program), Ahead(views)

    def ahead():
        # Streamed examples have shapes of their own, and processes one order.
        if job.config.stream_mib is None and jax.process_count() == 1:
            there, (part,) = shaped(shape, of_state), feed.parts(0, 1)
            one = np.int32(part.first), np.int32(part.count)
            then = evaluation, (numbers, there, test)
            rounds.begin((there, part.examples, data, *one), then=then)

    return Programs(
        shape=shape,
        initial=lambda: begin(numbers, seed),
        place=lambda state: jax.tree.map(whole, of_state, state),
        advance=_advance(rounds, feed, data),
        views=lambda state: evaluation(numbers, state, test),
        ahead=ahead,
    )
