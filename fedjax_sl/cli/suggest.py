"""`fedjax-sl suggest SWEEP…`: the settings that reach an accuracy at least cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.console import Console

from fedjax_sl.analysis.pareto import pareto_front
from fedjax_sl.cli.compare import show
from fedjax_sl.cli.line import Line
from fedjax_sl.cli.run_selection import Selection, select
from fedjax_sl.errors import InputError
from fedjax_sl.reports.groups import Group, Target, at_target, grouped
from fedjax_sl.reports.late import late_note
from fedjax_sl.reports.names import name_of
from fedjax_sl.reports.results_table import UNCHARGED


@dataclass(frozen=True, kw_only=True)
class Suggest(Selection):
    """Choose among the settings of finished runs, by their cost."""

    target: float
    """Test accuracy to reach, in (0, 1]."""

    by: Literal["seconds", "joules", "bits"] = "seconds"
    """The cost to minimise: simulated time, energy of the devices, or bits sent up."""

    def __post_init__(self):
        """Checks the ranges."""
        super().__post_init__()
        if not 0 < self.target <= 1:
            raise InputError(f"target={self.target}: expected more than 0, at most 1.")


def reaching(groups: Sequence[Group], target: float) -> list[Group]:
    """The groups of which every run reaches the accuracy."""
    return [
        group
        for group in groups
        # A seed that fails has no cost: the mean of the others would look cheap.
        if at_target(group, target).reached.all()
    ]


def best(groups: Sequence[Group], target: float, by: str) -> list[Group]:
    """Those who reach the accuracy, the cheapest first."""
    able = reaching(groups, target)
    return sorted(able, key=lambda group: at_target(group, target).costs[by].mean())


def cheapest_for_each_accuracy(groups: Sequence[Group], by: str) -> list[Group]:
    """The Pareto front of final accuracy over the cost until then."""
    cost = np.array([group.final_cost(by) for group in groups])
    gain = np.array([np.mean(group.final) for group in groups])
    return [groups[index] for index in pareto_front(cost, gain)]


def suggest_command(line: Line, console: Console) -> None:
    """Prints the choice, what else reaches the target, and the Pareto front.

    Raises:
      ValueError: if nothing reaches the target, or an option makes no sense.
      OSError: if something cannot be read.
    """
    options, runs = select(line, Suggest, console)
    groups = grouped(runs, options.channel)
    able = best(groups, options.target, options.by)
    if not able:
        highest = max(float(c.accuracy.max()) for g in groups for c in g.curves)
        raise InputError(
            f"target={options.target}: no setting reaches it with every seed; the "
            f"highest accuracy of any run is {highest:.4f}."
        )
    show(able, Target(options.target), console)
    console.print(f"least {options.by}: {name_of(able[0])}", soft_wrap=True)
    console.print(
        f"Pareto front, final accuracy against {options.by} of the whole run: "
        + "; ".join(map(name_of, cheapest_for_each_accuracy(groups, options.by))),
        soft_wrap=True,
    )
    console.print(
        "Accuracies are measured in these runs; bits are counted in them; seconds and "
        "joules are the channel's model applied to what was counted.",
        soft_wrap=True,
    )
    if not options.charge_side:
        console.print(UNCHARGED)
    if note := late_note(runs, options.channel):
        console.print(note, soft_wrap=True)
