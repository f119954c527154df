"""Many runs as few compiled programs, with the results of single runs."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.evaluation import evaluate_views
from fedjax_sl.federation.devices import mesh, sharded
from fedjax_sl.federation.faults import without_stragglers
from fedjax_sl.runs.build import Job, build, load_data, on_data
from fedjax_sl.runs.loop import MOST_ROUNDS, Programs
from fedjax_sl.simulation import run_some_rounds, start
from fedjax_sl.sweep import groups, stack


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


class Alike(NamedTuple):
    """Runs that share their programs.

    Attributes:
      jobs: the jobs, by the caller's number.
      programs: `programs(jobs)`, the programs of up to `at_a_time` of them.
      at_a_time: number of runs in a call of a program.
    """

    jobs: dict[int, Job]
    programs: Callable[[Sequence[Job]], Programs]
    at_a_time: int

    def blocks(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        """Splits numbers of runs into blocks of at most `at_a_time`."""
        for first in range(0, len(numbers), self.at_a_time):
            yield numbers[first : first + self.at_a_time]


# Runs of a group share the images of the first, so that a field is of the images unless
# it is here.
OF_THE_PARTITION = (
    "partition",
    "alpha",
    "min_size",
    "shards_per_client",
    "classes_per_client",
    "major_share",
    "sizes",
    "partition_seed",
)
"""Fields of the data that only choose the partition, an argument of the program; with
`feature_noise` the images depend on them, too."""


def _static(config: RunConfig) -> Any:
    """Returns a key that runs must share to be candidates for one program."""
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    # Numbers of the method and the seed are arguments, too; a channel is applied on the
    # host.
    for name in ("method", "seed", "channel"):
        del fields[name]
    shared = dataclasses.asdict(config.data)
    if config.data.feature_noise:
        shared["seed"] = config.seed
    else:
        for name in OF_THE_PARTITION:
            del shared[name]
    # As text: a field need not be hashable.
    return type(config), repr({**fields, "data": shared})


def _jobs(configs: dict[int, RunConfig]) -> dict[int, Job]:
    """Builds jobs that share their data, which is loaded once."""
    first = next(iter(configs.values()))
    train, test = load_data(first)
    return {n: on_data(c, train, test) for n, c in configs.items()}


def jobs_of(configs: dict[int, RunConfig]) -> list[dict[int, Job]]:
    """Builds a job for each configuration, grouped by shared data and static fields.

    Args:
      configs: configurations of the runs, by number.

    Returns:
      Jobs by number, for each group.

    Raises:
      ValueError: if a value is out of range, or data cannot be loaded.
    """
    alike: dict[Any, dict[int, RunConfig]] = {}
    for number, config in configs.items():
        for name, only in (("residuals", "device"), ("stream_mib", None)):
            value = getattr(config, name)
            if value != only:
                raise InputError(
                    f"{name}={value!r}: expected {only!r} in a sweep, whose runs share "
                    "their programs."
                )
        alike.setdefault(_static(config), {})[number] = config
    return [_jobs(group) for group in alike.values()]


def _point(job: Job, most: int) -> Point:
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


def alike(prepared: Sequence[dict[int, Job]], at_a_time: int) -> Iterator[Alike]:
    """Groups runs that share their programs.

    Args:
      prepared: groups of jobs, as from `jobs_of`.
      at_a_time: largest number of runs in a call of a program.

    Yields:
      An `Alike` for each structure of the arguments.
    """
    for jobs in prepared:
        most = max(job.partition.index.shape[1] for job in jobs.values())
        points = [_point(job, most) for job in jobs.values()]
        numbers = list(jobs)
        # Static fields of the method, and shapes, are told apart here.
        for indices in groups(points):
            here = {numbers[index]: jobs[numbers[index]] for index in indices}
            size = min(at_a_time, len(here))
            # One at a time, so that the programs of the one before can be let go.
            yield Alike(here, _programs(next(iter(here.values())), size, most), size)


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


def _programs(any_job: Job, size: int, most: int) -> Callable[..., Programs]:
    """Returns the programs of `size` runs, each compiled when first called."""
    over_points = mesh(size, "sweep")
    over = sharded(over_points)
    spread = jax.sharding.NamedSharding(
        over_points, jax.sharding.PartitionSpec("sweep")
    )
    # Sharding needs a multiple of the devices.
    slots = -(-size // over_points.size) * over_points.size
    begin, some_rounds, views = (
        partial(function, any_job.config) for function in (_begin, _some_rounds, _views)
    )
    # On the devices once, for all runs of the group.
    train, test = jax.device_put((any_job.train, any_job.test))

    @partial(jax.jit, out_shardings=spread)
    def initial(train, points):
        return over.map(begin, train)(points)

    @partial(jax.jit, out_shardings=spread, donate_argnames="state")
    def advance(train, rounds, points, state):
        return over.map(some_rounds, train, rounds)(points, state)

    @partial(jax.jit, out_shardings=spread)
    def evaluation(train, test, points, state):
        return over.map(views, train, test)(points, state)

    def filled(rows: Sequence[Any]) -> Any:
        """Stacks trees of runs; copies of the first fill the remaining slots."""
        rows = [*rows, *[rows[0]] * (slots - len(rows))]
        return jax.device_put(jax.tree.map(stack, *rows), spread)

    def programs(jobs: Sequence[Job]) -> Programs:
        rows = [_point(job, most) for job in jobs]
        points = filled(rows)

        def further(state, first, count):
            # Numbers of rounds are arguments: other ones compile nothing again.
            rounds = np.int32(first), np.int32(count)
            state, metrics = advance(train, rounds, points, state)
            # The program pads metrics to `MOST_ROUNDS`, whatever the count.
            return state, jax.tree.map(lambda x: np.asarray(x)[:, :count], metrics)

        return Programs(
            shape=jax.eval_shape(begin, train, rows[0]),
            initial=lambda: initial(train, points),
            place=filled,
            advance=further,
            views=lambda state: evaluation(train, test, points, state),
        )

    return programs
