"""The trajectory of a run: its models after some rounds, and batches to probe them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort
from fedjax_sl.checks import check_types
from fedjax_sl.errors import InputError
from fedjax_sl.methods import theory_of
from fedjax_sl.models.split import SplitParams
from fedjax_sl.runs.build import Job, build
from fedjax_sl.runs.programs import MOST_ROUNDS, programs_of
from fedjax_sl.runs.restore import begin
from fedjax_sl.simulation import DRAW


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A short run, and the points along it at which gradients are taken."""

    points: int = 4
    """Models along the trajectory at which gradients are taken, the first before
    training, >= 2."""

    spacing: int = 10
    """Rounds between two of these models, >= 1."""

    batches: int = 8
    """Mini-batches of each client at each of these models, >= 2."""

    def __post_init__(self):
        """Checks types and ranges."""
        check_types(self)
        for name, least in (("points", 2), ("spacing", 1), ("batches", 2)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name}={getattr(self, name)}: expected at least {least}."
                )

    @property
    def rounds(self) -> list[int]:
        """Rounds done at each point."""
        return [self.spacing * number for number in range(self.points)]


def models_along(job: Job, rounds: Iterable[int]) -> Iterator[SplitParams]:
    """Yields a run's global model after given rounds, rising from 0, on the host.

    They are the models of the run itself, from its own programs and its own start.

    Raises:
      ValueError: if the run to start from has no models.
    """
    programs = programs_of(job)
    global_model = jax.jit(theory_of(job.config).global_params)
    # No folder: there is nothing to resume.
    state = begin(job, programs, Path(), resume=False).state
    yield jax.device_get(global_model(state))
    for now, then in pairwise(rounds):
        for first in range(now, then, MOST_ROUNDS):
            state, _ = programs.advance(state, first, min(MOST_ROUNDS, then - first))
        # One program at a time: two with collectives could wait for each other.
        yield jax.device_get(global_model(jax.block_until_ready(state)))


def batches(job: Job, count: int) -> Cohort:
    """Draws so many mini-batches of each client of the first cohort.

    Nobody is absent, whatever the run's faults: the theorem is of all clients' losses.
    """
    # The run's own draws: the mini-batches that its first cohort trains on.
    key = jax.random.fold_in(jax.random.key(job.config.seed), DRAW)
    whole = replace(job.config, failure_probability=0.0, corruption_probability=0.0)
    draw = build(whole, job.train, job.partition).algorithm.draw
    data = (job.train, job.partition)
    drawn = [
        draw(key, *data, round=n, period=0, batch_size=job.config.batch_size)
        for n in range(count)
    ]
    return drawn[0]._replace(
        index=jnp.concatenate([each.index for each in drawn], axis=1),
        weight=jnp.concatenate([each.weight for each in drawn], axis=1),
    )
