"""Many runs as few compiled programs, each giving what it would give alone."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.federation import clients
from fedjax_sl.federation.faults import without_stragglers
from fedjax_sl.runs.build import Job, build, on_data, prepare
from fedjax_sl.runs.loop import MOST_ROUNDS, Programs
from fedjax_sl.simulation import evaluate_views, run_some_rounds, start
from fedjax_sl.sweep import groups, stack


class Point(NamedTuple):
    """What a compiled run takes: its method's numbers, its seed, and who owns what.

    `in_time` says who will be done in each round, None if all may take part.
    """

    method: Any
    seed: np.uint32
    partition: Partition
    in_time: np.ndarray | None


class Alike(NamedTuple):
    """Runs that share their programs.

    Attributes:
      jobs: their numbers, as the caller counts them, and jobs.
      programs: those of any so many of them, as `programs(jobs)`.
      at_a_time: how many that are.
    """

    jobs: dict[int, Job]
    programs: Callable[[Sequence[Job]], Programs]
    at_a_time: int

    def blocks(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        """So many of them at a time."""
        for first in range(0, len(numbers), self.at_a_time):
            yield numbers[first : first + self.at_a_time]


OF_THE_IMAGES = (
    "name",
    "dir",
    "image_size",
    "train_examples",
    "test_examples",
    "num_clients",
)
"""Fields of the data that do not only say who owns which example."""


def _static(config: RunConfig) -> Any:
    """What runs must share to be considered for one program.

    Of the data, the partition is an argument of the program, whatever it is drawn from.
    """
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for name in ("method", "seed", "channel"):
        del fields[name]
    shared = {name: getattr(config.data, name) for name in OF_THE_IMAGES}
    return type(config), repr({**fields, "data": shared})


def _jobs(configs: dict[int, RunConfig]) -> dict[int, Job]:
    """Runs that share their data."""
    first = prepare(next(iter(configs.values())))
    return {n: on_data(c, first.train, first.test) for n, c in configs.items()}


def jobs_of(configs: dict[int, RunConfig]) -> list[dict[int, Job]]:
    """Every configuration as a job, those together that share data and more.

    Args:
      configs: of the runs, by number.

    Returns:
      Jobs by number, for each group.

    Raises:
      ValueError: if something asked for is out of range or cannot be had.
    """
    alike: dict[Any, dict[int, RunConfig]] = {}
    for number, config in configs.items():
        alike.setdefault(_static(config), {})[number] = config
    return [_jobs(group) for group in alike.values()]


def _point(job: Job, most: int) -> Point:
    """The numbers of a job, every client's list padded to so many."""
    missing = most - job.partition.index.shape[1]
    index = np.pad(job.partition.index, ((0, 0), (0, missing)), constant_values=-1)
    return Point(
        job.config.method,
        np.uint32(job.config.seed),
        Partition(index, job.partition.count),
        None if job.in_time is None else job.in_time[: job.config.rounds],
    )


def alike(prepared: Sequence[dict[int, Job]], at_a_time: int) -> Iterator[Alike]:
    """Those that share programs, structure by structure.

    Args:
      prepared: as from `jobs_of`.
      at_a_time: runs in a call of a program, at most.

    Yields:
      An `Alike` for each structure.
    """
    for jobs in prepared:
        most = max(job.partition.index.shape[1] for job in jobs.values())
        points = [_point(job, most) for job in jobs.values()]
        numbers = list(jobs)
        for places in groups(points):
            here = {numbers[place]: jobs[numbers[place]] for place in places}
            size = min(at_a_time, len(here))
            yield Alike(here, _programs(next(iter(here.values())), size, most), size)


def _method(config: RunConfig, train: Dataset, point: Point) -> Algorithm:
    """The method of a point, its clients in time."""
    own = dataclasses.replace(config, method=point.method)
    built = build(own, train, point.partition, one_device=True)
    return without_stragglers(built.algorithm, point.in_time)


def _begin(config: RunConfig, train: Dataset, point: Point) -> State:
    """The state of a point before the first round."""
    return start(_method(config, train, point), jax.random.key(point.seed))


def _some_rounds(config: RunConfig, train, first, count, point: Point, state: State):
    """Some rounds of a point, as `run_some_rounds`."""
    return run_some_rounds(
        _method(config, train, point),
        state,
        train,
        point.partition,
        jax.random.key(point.seed),
        first=first,
        count=count,
        most=MOST_ROUNDS,
        batch_size=config.batch_size,
    )


def _views(
    config: RunConfig, train: Dataset, test: Dataset, point: Point, state: State
):
    """A point's models on the test split."""
    return evaluate_views(_method(config, train, point), state, test)


def _programs(any_job: Job, size: int, most: int) -> Callable[..., Programs]:
    """Programs of so many runs at a time, each compiled when first called."""
    mesh = clients.mesh(size, "sweep")
    over = clients.sharded(mesh)
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("sweep"))
    slots = -(-size // mesh.size) * mesh.size
    begin, some_rounds, views = (
        partial(function, any_job.config) for function in (_begin, _some_rounds, _views)
    )
    train, test = jax.device_put((any_job.train, any_job.test))

    @partial(jax.jit, out_shardings=spread)
    def initial(train, points):
        return over.map(begin, train)(points)

    @partial(jax.jit, out_shardings=spread, donate_argnames="state")
    def advance(train, first, count, points, state):
        return over.map(some_rounds, train, first, count)(points, state)

    @partial(jax.jit, out_shardings=spread)
    def evaluation(train, test, points, state):
        return over.map(views, train, test)(points, state)

    def filled(rows: Sequence[Any]) -> Any:
        """Stacked, and filled up with copies of the first."""
        rows = [*rows, *[rows[0]] * (slots - len(rows))]
        return jax.device_put(jax.tree.map(stack, *rows), spread)

    def programs(jobs: Sequence[Job]) -> Programs:
        rows = [_point(job, most) for job in jobs]
        points = filled(rows)

        def further(state, first, count):
            state, metrics = advance(
                train, np.int32(first), np.int32(count), points, state
            )
            return state, jax.tree.map(lambda x: np.asarray(x)[:, :count], metrics)

        return Programs(
            shape=jax.eval_shape(begin, train, rows[0]),
            initial=lambda: initial(train, points),
            place=filled,
            advance=further,
            views=lambda state: evaluation(train, test, points, state),
        )

    return programs
