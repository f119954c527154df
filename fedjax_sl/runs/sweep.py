"""Runs of a sweep, grouped by the data and the programs that they share."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.runs.build import Job, load_data, on_data
from fedjax_sl.runs.points import point_of, programs_of_points
from fedjax_sl.runs.programs import Programs
from fedjax_sl.sweep import groups


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
    "self_balancing",
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


def alike_by_configuration(configs: Sequence[RunConfig]) -> list[list[int]]:
    """Groups the indices of runs that share their programs, their data not loaded.

    Args:
      configs: of the runs.

    Returns:
      Indices, for each structure in the order in which it comes first.

    Raises:
      ValueError: if a value is out of range.
    """
    kinds: dict[Any, list[int]] = {}
    for index, config in enumerate(configs):
        kinds.setdefault(_static(config), []).append(index)
    return [
        [kind[n] for n in some]
        for kind in kinds.values()
        # As `alike` does, but for arrays that follow the static fields.
        for some in groups([configs[index].resolved().method for index in kind])
    ]


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


def alike(
    prepared: Sequence[dict[int, Job]], at_a_time: int, *, vmapped: int = 1
) -> Iterator[Alike]:
    """Groups runs that share their programs.

    Args:
      prepared: groups of jobs, as from `jobs_of`.
      at_a_time: largest number of runs in a call of a program.
      vmapped: runs that a device computes at once.

    Yields:
      An `Alike` for each structure of the arguments.
    """
    for jobs in prepared:
        most = max(job.partition.index.shape[1] for job in jobs.values())
        points = [point_of(job, most) for job in jobs.values()]
        numbers = list(jobs)
        # Static fields of the method, and shapes, are told apart here.
        for indices in groups(points):
            here = {numbers[index]: jobs[numbers[index]] for index in indices}
            size = min(at_a_time, len(here))
            any_job = next(iter(here.values()))
            # One at a time, so that the programs of the one before can be let go.
            programs = programs_of_points(any_job, size, most, vmapped=vmapped)
            yield Alike(here, programs, size)
