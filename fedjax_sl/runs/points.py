"""The programs of a sweep: a run is a point, and many points are advanced at once."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.evaluation import evaluate_views
from fedjax_sl.federation.clients import chunks, padded, scan
from fedjax_sl.federation.cpu import compiled_for_one_run
from fedjax_sl.federation.devices import mesh, sharded
from fedjax_sl.federation.faults import without_stragglers
from fedjax_sl.runs.ahead import Ahead, shaped
from fedjax_sl.runs.build import Job, build
from fedjax_sl.runs.programs import MOST_ROUNDS, Programs
from fedjax_sl.simulation import run_some_rounds, start
from fedjax_sl.sweep import stack


class Point(NamedTuple):
    """The arguments of a compiled run.

    Attributes:
      method: hyperparameters of the method.
      seed: seed of the run.
      partition: partition of the examples among clients.
      in_time: `[T, N]` bool, as in `Job`.
    """

    method: Any
    seed: np.uint32
    partition: Partition
    in_time: np.ndarray | None


def point_of(job: Job, most: int) -> Point:
    """Returns the arguments of a job, its partition padded to `most` examples."""
    # All runs of a program need the same shapes; -1 is no example.
    missing = most - job.partition.index.shape[1]
    index = np.pad(job.partition.index, ((0, 0), (0, missing)), constant_values=-1)
    return Point(
        job.config.method,
        np.uint32(job.config.seed),
        Partition(index, job.partition.count),
        # Stored for whole periods, whose length may differ between runs.
        None if job.in_time is None else job.in_time[: job.config.rounds],
    )


def _method(config: RunConfig, train: Dataset, point: Point) -> Algorithm:
    """Builds the method of a point, without its stragglers."""
    own = dataclasses.replace(config, method=point.method)
    # Devices are taken by the runs, one or more on each.
    built = build(own, train, point.partition, one_device=True)
    return without_stragglers(built.algorithm, point.in_time)


def _begin(config: RunConfig, train: Dataset, point: Point) -> State:
    """Returns the state of a point before the first round."""
    return start(_method(config, train, point), jax.random.key(point.seed))


def _some_rounds(config: RunConfig, train, rounds, point: Point, state: State):
    """Runs some rounds of a point, from the first of them on, so many."""
    first, count = rounds
    return run_some_rounds(
        _method(config, train, point),
        state,
        train,
        point.partition,
        key=jax.random.key(point.seed),
        first=first,
        count=count,
        most=MOST_ROUNDS,
        batch_size=config.batch_size,
    )


def _views(
    config: RunConfig, train: Dataset, test: Dataset, point: Point, state: State
):
    """Evaluates the models of a point on the test split."""
    return evaluate_views(_method(config, train, point), state, test)


def _filled(rows: Sequence[Any], slots: int) -> Any:
    """Stacks trees of runs; copies of the first fill the remaining slots."""
    return jax.tree.map(stack, *rows, *[rows[0]] * (slots - len(rows)))


def programs_of_points(
    any_job: Job, size: int, most: int, *, vmapped: int = 1
) -> Callable[..., Programs]:
    """Returns the programs of several runs, each compiled when first called.

    Args:
      any_job: one of the runs; they differ in what is in a `Point` alone.
      size: number of runs in a call.
      most: examples that a client's row of every partition is padded to.
      vmapped: runs that a device computes at once.

    Returns:
      `programs(jobs)` of at most `size` of the runs.
    """
    over_points = mesh(size, "sweep")
    over = sharded(over_points, scan if vmapped == 1 else chunks(vmapped))
    spread = jax.sharding.NamedSharding(
        over_points, jax.sharding.PartitionSpec("sweep")
    )
    # Sharding needs a multiple of the devices, and each of them full batches.
    slots = padded(size, over.devices, over.group)
    begin, some_rounds, views = (
        partial(function, any_job.config) for function in (_begin, _some_rounds, _views)
    )
    # On the devices once, for all runs of the group.
    train, test = jax.device_put((any_job.train, any_job.test))

    @partial(jax.jit, out_shardings=spread, compiler_options=compiled_for_one_run())
    def initial(train, points):
        return over.map(begin, train)(points)

    # Donated, so that the old and the new state share memory.
    @partial(jax.jit, out_shardings=spread, donate_argnames="state")
    def advance(train, rounds, points, state):
        return over.map(some_rounds, train, rounds)(points, state)

    @partial(jax.jit, out_shardings=spread)
    def evaluation(train, test, points, state):
        return over.map(views, train, test)(points, state)

    # For all calls: compiled ahead of the first one.
    advanced, evaluated = Ahead(advance), Ahead(evaluation)

    def filled(rows):
        return jax.device_put(_filled(rows, slots), spread)

    def programs(jobs: Sequence[Job]) -> Programs:
        rows = [point_of(job, most) for job in jobs]
        points = filled(rows)

        def ahead():
            shape = jax.eval_shape(initial, train, points)
            there = shaped(shape, jax.tree.map(lambda _: spread, shape))
            then = evaluated, (train, test, points, there)
            rounds = np.int32(0), np.int32(1)
            advanced.begin((train, rounds, points, there), then=then)

        def further(state, first, count):
            # Numbers of rounds are arguments: other ones compile nothing again.
            rounds = np.int32(first), np.int32(count)
            state, metrics = advanced(train, rounds, points, state)
            # The program pads metrics to `MOST_ROUNDS`, whatever the count.
            return state, jax.tree.map(lambda x: np.asarray(x)[:, :count], metrics)

        return Programs(
            shape=jax.eval_shape(begin, train, rows[0]),
            initial=lambda: initial(train, points),
            place=filled,
            advance=further,
            views=lambda state: evaluated(train, test, points, state),
            ahead=ahead,
        )

    return programs
