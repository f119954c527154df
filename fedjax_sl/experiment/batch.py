"""Many runs as few compiled programs, each giving what it would give alone."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.experiment.config import Run
from fedjax_sl.experiment.job import Job, on_data, prepare
from fedjax_sl.experiment.methods import build
from fedjax_sl.experiment.metrics import Totals, round_lines
from fedjax_sl.federation.faults import punctual
from fedjax_sl.simulation import History, simulate
from fedjax_sl.sweep import results


class Point(NamedTuple):
    """What a compiled run takes: its method's numbers, its seed, and who owns what.

    `in_time` says who will be done in each round, None if all may take part.
    """

    method: Any
    seed: np.uint32
    partition: Partition
    in_time: np.ndarray | None


class Outcome(NamedTuple):
    """The record of one run of many.

    Attributes:
      config: the run's, with nothing left open.
      lines: of metrics.jsonl.
      rounds: of rounds.jsonl.
      num_classes: C.
    """

    config: Run
    lines: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    num_classes: int


OF_THE_IMAGES = (
    "name",
    "dir",
    "image_size",
    "train_examples",
    "test_examples",
    "num_clients",
)
"""Fields of the data that do not only say who owns which example."""


def _static(config: Run) -> Any:
    """What runs must share to be considered for one program.

    Of the data, the partition is an argument of the program, whatever it is drawn from.
    """
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for name in ("method", "seed", "channel"):
        del fields[name]
    shared = {name: getattr(config.data, name) for name in OF_THE_IMAGES}
    return type(config), repr({**fields, "data": shared})


def _padded(partition: Partition, most: int) -> Partition:
    """The same, every client's list padded to so many."""
    missing = most - partition.index.shape[1]
    index = np.pad(partition.index, ((0, 0), (0, missing)), constant_values=-1)
    return Partition(index, partition.count)


def _run(static: Run) -> Callable[[Dataset, Dataset, Point], History]:
    """One run as a pure function of data and point."""

    def run(train: Dataset, test: Dataset, point: Point) -> History:
        config = dataclasses.replace(static, method=point.method)
        method = build(config, train, point.partition, one_device=True)
        _, history = simulate(
            punctual(method.algorithm, point.in_time),
            train,
            point.partition,
            jax.random.key(point.seed),
            test=test,
            rounds=static.rounds,
            batch_size=static.batch_size,
            eval_every=static.eval_every,
        )
        return history

    return run


def _outcome(job: Job, history: History) -> Outcome:
    """The lines of a history."""
    config, every = job.config, job.config.eval_every
    totals = Totals(
        job.test,
        steps=job.method.steps,
        epochs=config.epochs_per_round(len(job.train.label)),
        channel=config.channel,
        in_turn=config.in_turn,
    )
    lines, rounds = [], []
    for place in range(config.rounds // every):
        here, views = jax.tree.map(
            lambda x, place=place: x[place], (history.rounds, history.evaluation)
        )
        line = totals.line((place + 1) * every, here, views)
        del line["wall_seconds"]  # the runs of a program end together
        lines.append(line)
        rounds += round_lines(place * every, here)
    return Outcome(config, lines, rounds, job.test.num_classes)


def _jobs(configs: Sequence[Run]) -> list[Job]:
    """Runs that share their data."""
    first = prepare(configs[0])
    return [on_data(config, first.train, first.test) for config in configs]


def _points(jobs: Sequence[Job]) -> list[Point]:
    most = max(job.partition.index.shape[1] for job in jobs)
    return [
        Point(
            job.config.method,
            np.uint32(job.config.seed),
            _padded(job.partition, most),
            None if job.in_time is None else job.in_time[: job.config.rounds],
        )
        for job in jobs
    ]


def outcomes(
    configs: Sequence[Run], *, at_a_time: int | None = None
) -> Iterator[tuple[int, Outcome]]:
    """Runs every configuration, those alike in one program.

    Args:
      configs: of the runs.
      at_a_time: runs in a call of a program; as many as there are devices if not given.

    Returns:
      An iterator over places of runs among `configs` and their outcomes, as they come.

    Raises:
      ValueError: if something asked for is out of range or cannot be had; at once,
        before anything has run.
    """
    groups: dict[Any, list[int]] = {}
    for place, config in enumerate(configs):
        groups.setdefault(_static(config), []).append(place)
    prepared = [
        (places, _jobs([configs[place] for place in places]))
        for places in groups.values()
    ]
    return _run_all(prepared, at_a_time or jax.device_count())


def _run_all(
    prepared: Sequence[tuple[list[int], list[Job]]], at_a_time: int
) -> Iterator[tuple[int, Outcome]]:
    for places, jobs in prepared:
        data = jax.device_put((jobs[0].train, jobs[0].test))
        found = results(
            _run(jobs[0].config), _points(jobs), shared=data, at_a_time=at_a_time
        )
        for row, history in found:
            yield places[row], _outcome(jobs[row], history)
