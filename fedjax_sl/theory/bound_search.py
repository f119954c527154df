"""Searches configurations of FedSL by the cost of reaching a target of the bound."""

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
    """A choice, the rounds that it needs by the bound, and their cost.

    Attributes:
      choice: the choice.
      floor: limit of its bound for infinitely many rounds.
      rounds: rounds until the bound is at the target; infinite if it never is.
      cost: cost of these rounds, infinite if they are.
    """

    choice: Choice
    floor: float
    rounds: float
    cost: Cost


class Candidate(NamedTuple):
    """A choice, and everything that its plan depends on."""

    choice: Choice
    constants: Constants
    setting: Setting
    kinds: Record


def candidates(
    job: Job, choices: Sequence[Choice], trajectory: Trajectory
) -> Iterator[Candidate]:
    """Yields every choice with its constants and counts, from one short run."""
    config, theory = job.config, theory_of(job.config)
    points = list(models_along(job, trajectory.rounds))
    cohort = batches(job, trajectory.batches)
    # They are by layer, whatever the cut: one estimate serves all choices.
    dense = estimate(theory.model(config, job.train), points, cohort).constants
    # Constants depend on few of a choice's fields: each is estimated once per cut.
    # Choices come cut by cut; in another order `groupby` would split a cut.
    for _, of_cut in itertools.groupby(choices, key=lambda choice: choice.cut):
        of_cut = list(of_cut)
        model = theory.model(theory.with_choice(config, of_cut[0]), job.train)
        here = [recut(point, model) for point in points]
        # Keys are the fields that each depends on: a new field of `Choice` may be one.
        constants, counts, settings, shares = {}, {}, {}, {}
        for choice in of_cut:
            chosen = theory.with_choice(config, choice)
            _, ratio, bits, rate, interval = choice
            if rate not in constants:
                constants[rate] = under_dropout(dense, model, here, cohort, rate=rate)
            if (bits, interval) not in settings:
                settings[bits, interval] = theory.setting(chosen, model)
            if (ratio, bits, rate) not in counts:
                counts[ratio, bits, rate] = theory.round_kinds(
                    model, chosen.method, config.batch_size
                )
            if ratio not in shares:
                shares[ratio] = float(theory.ratios(chosen, model).mean())
            pruned = {"pruned": shares[ratio], "masked": shares[ratio]}
            setting = settings[bits, interval]._replace(**pruned)
            kinds = counts[ratio, bits, rate]
            yield Candidate(choice, constants[rate], setting, kinds)


def plan(candidate: Candidate, run: RunConfig, target: float) -> Plan:
    """Returns the rounds that a choice needs, and their cost over the run's channel."""
    choice, constants, setting, kinds = candidate
    terms = bound(constants, setting)
    rounds = rounds_needed(constants, setting, target)
    total = Cost(np.inf, np.inf)
    if np.isfinite(rounds):
        total = cost(
            run.channel,
            kinds,
            interval=choice.interval,
            rounds=int(rounds),
            num_clients=run.data.num_clients,
        )
    return Plan(choice, terms.total - terms.start, rounds, total)


def best(plans: Sequence[Plan], by: str) -> list[Plan]:
    """Returns the plans that reach the target, the cheapest first."""
    able = [plan for plan in plans if np.isfinite(plan.rounds)]
    return sorted(able, key=lambda plan: getattr(plan.cost, by))


def on_pareto_front(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans that reach the target and that no other beats in both costs."""
    able = best(plans, "seconds")
    if not able:
        return []
    seconds, joules = np.array([plan.cost for plan in able]).T
    # The front is of cost against gain: fewer joules are the gain.
    return [able[index] for index in pareto_front(seconds, -joules)]
