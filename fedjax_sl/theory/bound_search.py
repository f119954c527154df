"""Settings of FedSL to choose among, and what each takes by the bound."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sl.analysis.fedsl_bound import (
    Constants,
    Setting,
    bound,
    rounds_needed,
)
from fedjax_sl.analysis.pareto import front
from fedjax_sl.configs.run_config import FedSLRun
from fedjax_sl.models.split import recut
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.methods import split_model
from fedjax_sl.theory.bound_constants import estimate, under_dropout
from fedjax_sl.theory.bound_curve import setting_of
from fedjax_sl.theory.round_cost import Cost, cost, kinds_of_round
from fedjax_sl.theory.trajectory import Visits, batches, visited
from fedjax_sl.traffic import Record


class Choice(NamedTuple):
    """What is chosen, in the order of the table."""

    cut: int
    ratio: float
    bits: int
    rate: float
    interval: int

    def __str__(self) -> str:
        return (
            f"cut {self.cut}, pruned {self.ratio:g}, {self.bits} bits, dropped "
            f"{self.rate:g}, interval {self.interval}"
        )


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


def configured(run: FedSLRun, choice: Choice) -> FedSLRun:
    """The configuration with a choice in it, in all rounds and for all clients."""
    method = dataclasses.replace(
        run.method,
        prune_ratio=choice.ratio,
        prune_shape="constant",
        prune_start=0,
        prune_end=0,
        bits=choice.bits,
        grad_bits=None,
        upload_bits=None,
        quantizer_error=None,
        dropout_rate=choice.rate,
        interval=choice.interval,
    )
    model = dataclasses.replace(run.model, cut=choice.cut)
    return dataclasses.replace(run, model=model, method=method)


def candidates(
    job: Job, choices: Sequence[Choice], visits: Visits
) -> Iterator[Candidate]:
    """Every choice with its constants and counts, from one short run of the job."""
    config = job.config
    assert isinstance(config, FedSLRun)
    points = list(visited(job, visits.rounds))
    cohort = batches(job, visits.batches)
    dense = estimate(split_model(config.model, job.train), points, cohort).constants
    for cut, of_cut in itertools.groupby(choices, key=lambda choice: choice.cut):
        model_config = dataclasses.replace(config.model, cut=cut)
        model = split_model(model_config, job.train)
        here = [recut(point, model) for point in points]
        constants, counts, settings = {}, {}, {}
        for choice in of_cut:
            one = configured(config, choice)
            _, ratio, bits, rate, interval = choice
            if rate not in constants:
                constants[rate] = under_dropout(dense, model, here, cohort, rate)
            if (bits, interval) not in settings:
                settings[bits, interval] = setting_of(one, model)
            if (ratio, bits, rate) not in counts:
                counts[ratio, bits, rate] = kinds_of_round(
                    model, one.method, config.batch_size
                )
            setting = settings[bits, interval]._replace(pruned=ratio, masked=ratio)
            kinds = counts[ratio, bits, rate]
            yield Candidate(choice, constants[rate], setting, kinds)


def plan(candidate: Candidate, run: FedSLRun, target: float) -> Plan:
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


def front_of(plans: Sequence[Plan]) -> list[Plan]:
    """Of those that reach the target, the ones that no other beats in both costs."""
    able = best(plans, "seconds")
    seconds, joules = np.array([one.cost for one in able]).T
    return [able[place] for place in front(seconds, -joules)]
