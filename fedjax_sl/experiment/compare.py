"""`fedjax-sl compare RUN…`: what runs reach, and what it takes over a channel."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from scipy import special

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.experiment.finished import (
    Course,
    Finished,
    course,
    differing,
    settings,
)
from fedjax_sl.experiment.selection import UNCHARGED, Selection, select


WIDE = Console(width=1000)
"""To measure how wide a table wants to be."""


@dataclass(frozen=True, kw_only=True)
class Compare(Selection):
    """Compare finished runs over a channel; nothing is trained again."""

    target: float | None = None
    """Test accuracy to reach, in (0, 1]; by default the least final one of all."""

    def __post_init__(self):
        """Checks the ranges."""
        super().__post_init__()
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"target={self.target}: expected more than 0, at most 1.")


class Group(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      label: value of each setting that differs between groups.
      runs: them.
      courses: of each.
    """

    label: dict[str, Any]
    runs: list[Finished]
    courses: list[Course]


def grouped(runs: Sequence[Finished], channel: Channel) -> list[Group]:
    """The runs by their settings, seeds together."""
    names = differing([run.config for run in runs])
    groups: dict[str, Group] = {}
    for run in runs:
        every = settings(run.config)
        label = {name: every.get(name) for name in names}
        group = groups.setdefault(repr(label), Group(label, [], []))
        group.runs.append(run)
        group.courses.append(course(run, channel))
    return list(groups.values())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval (Student's t)."""
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return float(found.mean()), np.nan
    error = found.std(ddof=1) / np.sqrt(len(found))
    quantile = special.stdtrit(len(found) - 1, 0.975)
    return float(found.mean()), float(quantile * error)


def at_target(group: Group, target: float) -> dict[str, list[float]]:
    """What each run that reaches the accuracy had spent when it first did."""
    spent: dict[str, list[float]] = {
        name: [] for name in ("rounds", "bits", "seconds", "joules")
    }
    for one in group.courses:
        reached = np.flatnonzero(one.accuracy >= target)
        for name, values in spent.items():
            if len(reached):
                values.append(float(getattr(one, name)[reached[0]]))
    return spent


def _shown(values: Sequence[float], *, spread: bool = True) -> str:
    """The mean, and its interval if there is one and it is wanted."""
    mean, half = interval(values)
    shown = f"{mean:.3g}" if mean >= 0.1 else f"{mean:.2g}"
    return shown if np.isnan(half) or not spread else f"{shown} ±{half:.2g}"


def table(groups: Sequence[Group], target: float) -> Table:
    """A line for each group."""
    shown = Table(
        title=f"Final test accuracy, and what reaching {target:.4g} takes (± 95 %)",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    names = [name.split(".")[-1] for name in groups[0].label] or ["run"]
    measured = ("accuracy", "reached", "rounds", "Mbit up", "seconds", "joules")
    for column in (*names, *measured):
        shown.add_column(column, justify="right", no_wrap=True)
    for group in groups:
        spent = at_target(group, target)
        label = [str(value) for value in group.label.values()]
        cells = ["–"] * len(spent)
        if spent["rounds"]:
            cells = [
                _shown(spent["rounds"], spread=False),
                _shown([bits / 1e6 for bits in spent["bits"]], spread=False),
                _shown(spent["seconds"]),
                _shown(spent["joules"]),
            ]
        shown.add_row(
            *(label or [group.runs[0].folder.name]),
            _shown([one.accuracy[-1] for one in group.courses]),
            f"{len(spent['rounds'])}/{len(group.runs)}",
            *cells,
        )
    return shown


def show_whole(shown: Table, console: Console) -> None:
    """Prints a table; figures are never cut to fit a narrow terminal."""
    width = max(console.width, Measurement.get(WIDE, WIDE.options, shown).maximum)
    Console(file=console.file, width=width).print(shown)


def show(groups: Sequence[Group], target: float, console: Console) -> None:
    """Prints the table of groups."""
    show_whole(table(groups, target), console)


def compare_command(arguments: list[str], console: Console) -> None:
    """Prints the table.

    Raises:
      ValueError: if a folder or an option makes no sense.
      OSError: if something cannot be read.
    """
    asked, runs = select(Compare, arguments, command="compare")
    if len({run.config.channel for run in runs}) > 1:
        one = dataclasses.asdict(asked.channel)
        console.print(f"all over the channel of the first: {one}", soft_wrap=True)
    if not asked.charge_side:
        console.print(UNCHARGED)
    groups = grouped(runs, asked.channel)
    least = min(one.accuracy[-1] for group in groups for one in group.courses)
    show(groups, asked.target or float(least), console)
