"""`fedjax-sl suggest --bound TARGET`: settings by FedSL's bound, before any run."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.constants import estimate, under_dropout
from fedjax_sl.analysis.convergence import (
    Constants,
    Setting,
    bound,
    rounds_needed,
)
from fedjax_sl.analysis.front import front
from fedjax_sl.analysis.latency import Record
from fedjax_sl.analysis.planning import Cost, cost, kinds_of_round
from fedjax_sl.experiment.config import FedSLRun
from fedjax_sl.experiment.job import Job, prepare
from fedjax_sl.experiment.methods import split_model
from fedjax_sl.experiment.options import parse
from fedjax_sl.experiment.theory import setting_of
from fedjax_sl.experiment.visits import Visits, batches, visited
from fedjax_sl.models.split import recut
from fedjax_sl.models.vgg import BLOCKS


@dataclass(frozen=True, kw_only=True)
class SuggestByBound:
    """Choose settings of FedSL by its convergence bound; no run need be finished.

    Every combination of the values below is tried, over the channel and the device
    classes of the configuration.
    """

    run: Annotated[FedSLRun, tyro.conf.arg(name="")]

    bound: float
    """Mean squared gradient that the bound is to come down to, > 0."""

    by: Literal["seconds", "joules"] = "seconds"
    """What is to be least: simulated time, or energy of the devices."""

    cuts: tuple[int, ...] = ()
    """L_c to choose among; the ends of the network's blocks if not given."""

    ratios: tuple[float, ...] = (0.0, 0.2, 0.35, 0.5)
    """rho, pruned in every round, without a ramp."""

    bits: tuple[int, ...] = (4, 8, 32)
    """b, of gradients and updates."""

    rates: tuple[float, ...] = (0.0, 0.2, 0.5)
    """p, share of the activations dropped at the cut."""

    intervals: tuple[int, ...] = (1, 2, 5, 10, 20)
    """I, rounds between two aggregations."""

    visits: Annotated[Visits, tyro.conf.arg(name="")] = Visits()

    def __post_init__(self):
        """Checks the ranges, but for those that the method itself checks."""
        if not 0 < self.bound < np.inf:
            raise ValueError(f"bound={self.bound}: expected a number > 0.")
        for name in ("ratios", "bits", "rates", "intervals"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one value.")


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


def _choices(asked: SuggestByBound) -> list[Choice]:
    cuts = asked.cuts or tuple(itertools.accumulate(BLOCKS[asked.run.model.depth]))
    values = (asked.ratios, asked.bits, asked.rates, asked.intervals)
    return [Choice(*one) for one in itertools.product(cuts, *values)]


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
            if bits not in settings:
                settings[bits] = setting_of(one, model)
            if (ratio, bits, rate) not in counts:
                counts[ratio, bits, rate] = kinds_of_round(
                    model, one.method, config.batch_size
                )
            setting = settings[bits]._replace(
                interval=interval, pruned=ratio, masked=ratio
            )
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


def _table(plans: Sequence[Plan], title: str) -> Table:
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    heads = ("cut", "pruned", "bits", "dropped", "interval")
    for head in (*heads, "rounds", "seconds", "joules", "floor"):
        shown.add_column(head, justify="right", no_wrap=True)
    for choice, floor, rounds, spent in plans:
        cells = (f"{value:g}" for value in choice)
        shown.add_row(
            *cells,
            f"{rounds:.0f}",
            *(f"{value:.4g}" for value in spent),
            f"{floor:.3g}",
        )
    return shown


def _out_of_reach(plans: Sequence[Plan]) -> str:
    """The values with which no choice reaches the target."""
    able, lost = best(plans, "seconds"), []
    for name in Choice._fields:
        every, found = (
            {getattr(one.choice, name) for one in some} for some in (plans, able)
        )
        if missing := sorted(every - found):
            lost.append(f"{name} {', '.join(f'{value:g}' for value in missing)}")
    return "; ".join(lost)


def _about_pruning(every: Sequence[Candidate], target: float) -> str | None:
    """That the bound says nothing of pruned models, if it does not."""
    pruned = [one for one in every if one.choice.ratio > 0]
    if not pruned:
        return None
    terms = [bound(one.constants, one.setting) for one in pruned]
    least = min(one.pruning + one.masking for one in terms)
    if least < target:
        return None
    return (
        f"Pruning is out of reach of the bound, whatever it is worth: it adds at least "
        f"{least:.3g} (3 beta^2 rho D^2 + 3 kappa G^2, with beta "
        f"{pruned[0].constants.smoothness:.3g})."
    )


def suggest_by_bound(arguments: list[str], console: Console) -> None:
    """Prints the front of time and energy, the choice, and what it rests on.

    Raises:
      ValueError: if no choice reaches the target, or something asked for is out of
        range.
    """
    usual = SuggestByBound(run=FedSLRun(), bound=1.0)
    asked = parse(SuggestByBound, arguments, command="suggest", default=usual)
    choices = _choices(asked)
    for choice in choices:
        configured(asked.run, choice)
    if asked.run.in_turn:
        raise ValueError("the bound is of clients that act at once, not in turn.")
    job = prepare(asked.run)
    assert isinstance(job.config, FedSLRun)
    console.print(
        f"{len(choices)} choices; constants from a short run on {job.train.name}"
    )
    every = list(candidates(job, choices, asked.visits))
    plans = [plan(one, job.config, asked.bound) for one in every]
    able = best(plans, asked.by)
    if not able:
        lowest = min(plans, key=lambda one: one.floor)
        raise ValueError(
            f"bound={asked.bound:g}: no choice comes that low, after however many "
            f"rounds; the lowest floor is {lowest.floor:.3g} ({lowest.choice})."
        )
    title = f"Time against energy until the bound is at {asked.bound:g}, by rising time"
    console.print(_table(front_of(plans), title))
    console.print(f"least {asked.by}: {able[0].choice}", soft_wrap=True)
    if said := _about_pruning(every, asked.bound):
        console.print(said, soft_wrap=True)
    if lost := _out_of_reach(plans):
        console.print(f"Reached by no choice with: {lost}.", soft_wrap=True)
    console.print(
        f"This rests on the bound, not on measurement: {len(able)} of {len(plans)} "
        "choices reach the target by it. The theorem is of plain SGD without momentum, "
        f"at rate {job.config.method.learning_rate:g}; its constants are estimated at "
        f"{asked.visits.points} models of one short run, from which a proof does not "
        "follow. Bits and multiplications are what the method counts; seconds and "
        "joules are the channel's model of them.",
        soft_wrap=True,
    )
