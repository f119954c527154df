"""`fedjax-sl plan`: settings by a convergence bound, before any run."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.fedsl_bound import Choice, bound
from fedjax_sl.cli.bound import usual_run
from fedjax_sl.cli.compact import compact
from fedjax_sl.cli.line import Line
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.methods import theory_of
from fedjax_sl.runs.build import prepare
from fedjax_sl.theory.bound_curve import said_of
from fedjax_sl.theory.bound_search import (
    Candidate,
    Plan,
    best,
    candidates,
    on_pareto_front,
    plan,
)
from fedjax_sl.theory.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Choose settings by the convergence bound; no run need be finished.

    Every combination of the values below is tried, over the channel and the device
    classes of the configuration.
    """

    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=usual_run)

    # By its alias `suggest --bound` is told from `suggest` (`presets.Start`).
    target: Annotated[float, tyro.conf.arg(aliases=["--bound"])]
    """Mean squared gradient that the bound is to come down to, > 0."""

    by: Literal["seconds", "joules"] = "seconds"
    """The cost to minimise: simulated time, or energy of the devices."""

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

    trajectory: Annotated[Trajectory, tyro.conf.arg(name="")] = Trajectory()

    def __post_init__(self):
        """Checks the ranges, but for those that the method itself checks."""
        if not 0 < self.target < np.inf:
            raise InputError(f"target={self.target}: expected a number > 0.")
        # Seconds would end at it, whatever a choice sends.
        if (deadline := self.run.channel.deadline_s) is not None:
            raise InputError(
                f"channel.deadline_s={deadline}: expected none, as a plan leaves out "
                "nobody who is late."
            )
        for name in ("ratios", "bits", "rates", "intervals"):
            if not getattr(self, name):
                raise InputError(f"{name}: expected at least one value.")


def _choices(options: PlanCommand, cuts: Sequence[int]) -> list[Choice]:
    cuts = options.cuts or cuts
    values = (options.ratios, options.bits, options.rates, options.intervals)
    # Cut by cut, since `candidates` computes most things once per cut.
    return [Choice(*choice) for choice in itertools.product(cuts, *values)]


def table(plans: Sequence[Plan], title: str) -> Table:
    """Returns the table of some plans, no wider than 80 columns."""
    shown = compact(title)
    heads = ("cut", "pruned", "bits", "dropped", "interval")
    for head in (*heads, "rounds", "seconds", "joules", "floor"):
        shown.add_column(head, justify="right", no_wrap=True)
    for choice, floor, rounds, cost in plans:
        cells = (f"{value:g}" for value in choice)
        shown.add_row(
            *cells,
            f"{rounds:.0f}",
            *(f"{value:.4g}" for value in cost),
            f"{floor:.3g}",
        )
    return shown


def _out_of_reach(plans: Sequence[Plan]) -> str:
    """The values with which no choice reaches the target."""
    able, lost = best(plans, "seconds"), []
    for name in Choice._fields:
        every, found = (
            {getattr(plan.choice, name) for plan in some} for some in (plans, able)
        )
        if missing := sorted(every - found):
            lost.append(f"{name} {', '.join(f'{value:g}' for value in missing)}")
    return "; ".join(lost)


def _about_pruning(every: Sequence[Candidate], target: float) -> str | None:
    """That the bound says nothing of pruned models, if it does not."""
    pruned = [candidate for candidate in every if candidate.choice.ratio > 0]
    if not pruned:
        return None
    terms = [bound(candidate.constants, candidate.setting) for candidate in pruned]
    # No number of rounds makes these terms smaller.
    least = min(term.pruning + term.masking for term in terms)
    if least < target:
        return None
    return (
        f"Pruning is out of reach of the bound: it adds at least "
        f"{least:.3g} (3 beta^2 rho D^2 + 3 kappa G^2, with beta "
        f"{pruned[0].constants.smoothness:.3g})."
    )


def plan_command(line: Line, console: Console) -> None:
    """Prints the Pareto front of time and energy, the choice, and what it rests on.

    Raises:
      ValueError: if no choice reaches the target, or an option is out of
        range.
    """
    options = line.parse(PlanCommand)
    theory, job = theory_of(options.run), prepare(options.run)
    choices = _choices(options, theory.cuts(job.config, job.train))
    # All of them before the short run, which one refusal would waste.
    for choice in choices:
        theory.check_covered(theory.with_choice(options.run, choice))
    console.print(
        f"{len(choices)} choices; constants from a short run on {job.train.name}"
    )
    every = list(candidates(job, choices, options.trajectory))
    plans = [plan(candidate, job.config, options.target) for candidate in every]
    able = best(plans, options.by)
    if not able:
        lowest = min(plans, key=lambda plan: plan.floor)
        raise InputError(
            f"target={options.target:g}: no choice comes that low, after however many "
            f"rounds; the lowest floor is {lowest.floor:.3g} ({lowest.choice})."
        )
    title = (
        f"Time against energy until the bound is at {options.target:g}, by rising time"
    )
    console.print(table(on_pareto_front(plans), title))
    console.print(f"least {options.by}: {able[0].choice}", soft_wrap=True)
    if said := _about_pruning(every, options.target):
        console.print(said, soft_wrap=True)
    if lost := _out_of_reach(plans):
        console.print(f"Reached by no choice with: {lost}.", soft_wrap=True)
    console.print(
        f"This rests on the bound, not on measurement: {len(able)} of {len(plans)} "
        f"choices reach the target by it, at rate {job.config.method.learning_rate:g}. "
        f"{said_of(theory.ignored(job.config))} Its constants are estimated at "
        f"{options.trajectory.points} models of one short run, from which a proof does "
        "not follow. Bits and MACs are what the method counts; seconds and joules are "
        "the channel's model of them.",
        soft_wrap=True,
    )
