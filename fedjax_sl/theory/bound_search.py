"""Settings of FedSL to choose among, and what each takes by the bound."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sl.analysis.fedsl_bound import (
    Choice,
    Constants,
    Setting,
    bound,
    rounds_needed,
)
from fedjax_sl.analysis.pareto import pareto_front
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.methods import theory_of
from fedjax_sl.models.split import recut
from fedjax_sl.runs.build import Job
from fedjax_sl.theory.bound_constants import estimate, under_dropout
from fedjax_sl.theory.round_cost import Cost, cost
from fedjax_sl.theory.trajectory import Trajectory, batches, models_along
from fedjax_sl.traffic import Record


class Plan(NamedTuple):
    """A choice, the rounds it needs by the bound, and what they take.

    Attributes:
      choice: it.
      floor: of its bound, after however many rounds.
      rounds: until the bound is at the target; infinite if it never is.
      cost: of these rounds; infinite, too.
    """

    choice: Choice
    floor: float
    rounds: float
    cost: Cost


class Candidate(NamedTuple):
    """A choice, and all that its plan follows from."""

    choice: Choice
    constants: Constants
    setting: Setting
    kinds: Record


def candidates(
    job: Job, choices: Sequence[Choice], trajectory: Trajectory
) -> Iterator[Candidate]:
    """Every choice with its constants and counts, from one short run of the job."""
    config, theory = job.config, theory_of(job.config)
    points = list(models_along(job, trajectory.rounds))
    cohort = batches(job, trajectory.batches)
    dense = estimate(theory.model(config, job.train), points, cohort).constants
    for _, of_cut in itertools.groupby(choices, key=lambda choice: choice.cut):
        of_cut = list(of_cut)
        model = theory.model(theory.with_choice(config, of_cut[0]), job.train)
        here = [recut(point, model) for point in points]
        constants, counts, settings = {}, {}, {}
        for choice in of_cut:
            one = theory.with_choice(config, choice)
            _, ratio, bits, rate, interval = choice
            if rate not in constants:
                constants[rate] = under_dropout(dense, model, here, cohort, rate)
            if (bits, interval) not in settings:
                settings[bits, interval] = theory.setting(one, model)
            if (ratio, bits, rate) not in counts:
                counts[ratio, bits, rate] = theory.round_kinds(
                    model, one.method, config.batch_size
                )
            setting = settings[bits, interval]._replace(pruned=ratio, masked=ratio)
            kinds = counts[ratio, bits, rate]
            yield Candidate(choice, constants[rate], setting, kinds)


def plan(candidate: Candidate, run: RunConfig, target: float) -> Plan:
    """The rounds that the bound asks for, and what they take over the run's channel."""
    choice, constants, setting, kinds = candidate
    terms = bound(constants, setting)
    rounds = rounds_needed(constants, setting, target)
    spent = Cost(np.inf, np.inf)
    if np.isfinite(rounds):
        spent = cost(
            run.channel,
            kinds,
            interval=choice.interval,
            rounds=int(rounds),
            num_clients=run.data.num_clients,
        )
    return Plan(choice, terms.total - terms.start, rounds, spent)


def best(plans: Sequence[Plan], by: str) -> list[Plan]:
    """Those that reach the target, the cheapest first."""
    able = [one for one in plans if np.isfinite(one.rounds)]
    return sorted(able, key=lambda one: getattr(one.cost, by))


def on_pareto_front(plans: Sequence[Plan]) -> list[Plan]:
    """Of those that reach the target, the ones that no other beats in both costs."""
    able = best(plans, "seconds")
    seconds, joules = np.array([one.cost for one in able]).T
    return [able[place] for place in pareto_front(seconds, -joules)]
