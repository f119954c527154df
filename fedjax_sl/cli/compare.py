"""`fedjax-sl compare RUN…`: what runs reach, and what it takes over a channel."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fedjax_sl.cli.line import Line
from fedjax_sl.cli.run_selection import Selection, select
from fedjax_sl.errors import InputError
from fedjax_sl.reports.groups import (
    Group,
    Target,
    at_target,
    grouped,
    interval,
    progress_axis,
    usual_target,
)
from fedjax_sl.reports.labels import METHOD, accuracy_of, titles, words
from fedjax_sl.reports.late import late_note
from fedjax_sl.reports.results_table import UNCHARGED


WIDE = Console(width=1000, markup=False)
"""To measure how wide a table wants to be."""

LEAST_NAME = 12
"""Columns that a run's name keeps, however narrow the terminal is."""


@dataclass(frozen=True, kw_only=True)
class Compare(Selection):
    """Compare finished runs over a channel; nothing is trained again."""

    target: float | None = None
    """Test accuracy to reach, in (0, 1]; by default the highest one that all runs have
    reached that were ever above chance."""

    def __post_init__(self):
        """Checks the ranges."""
        super().__post_init__()
        if self.target is not None and not 0 < self.target <= 1:
            raise InputError(f"target={self.target}: expected more than 0, at most 1.")


def _spread(values: Sequence[float]) -> str:
    """The interval of a mean, if there is one."""
    _, half = interval(values)
    return "" if np.isnan(half) else f" ±{half:.2g}"


def _measured(
    group: Group, target: float, axis: str | None, *, spread: bool
) -> list[str]:
    """A group's cells: accuracy, and what reaching the target took."""
    taken = at_target(group, target)
    # Of a bound there is no interval.
    spread = spread and bool(taken.reached.all())
    return [
        f"{np.mean(group.final):.3g}{_spread(group.final)}",
        f"{taken.reached.sum()}/{len(group.runs)}",
        *([taken.text(axis, 3)] if axis else []),
        taken.text("bits", 3, factor=1e-6),
        *(
            taken.text(cost, 3)
            + (_spread(taken.costs[cost].tolist()) if spread else "")
            for cost in ("seconds", "joules")
        ),
    ]


def table(
    groups: Sequence[Group],
    target: Target,
    names: Sequence[str],
    *,
    spread: bool = True,
) -> Table:
    """A line for each group.

    Args:
      groups: of runs.
      target: accuracy to reach.
      names: of the settings that are shown.
      spread: with intervals of seconds and joules, too.

    Returns:
      The table.
    """
    configs = [group.runs[0].config for group in groups]
    shown = Table(
        title=f"{titles(configs)} on {configs[0].data.name}: final "
        f"{accuracy_of(configs)}, and what reaching {target.accuracy:.4g} takes "
        "(± 95 %)",
        caption=target.note or None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    # Folded, not cut: by the name its folder is found.
    shown.add_column("run", overflow="fold")
    axis = progress_axis(groups)
    # A setting may have the same name.
    progress = [f"{axis} to it" if axis in names else axis] if axis else []
    measured = ("accuracy", "reached", *progress, "Mbit up", "seconds", "joules")
    for column in (*names, *measured):
        left = column == METHOD
        shown.add_column(column, justify="left" if left else "right", no_wrap=True)
    for group in groups:
        label = [group.label[name] for name in names]
        cells = _measured(group, target.accuracy, axis, spread=spread)
        shown.add_row(group.name, *label, *cells)
    return shown


def _width(shown: Table) -> int:
    """Columns that a table takes if nothing of it is wrapped."""
    return Measurement.get(WIDE, WIDE.options, shown).maximum


def show_whole(shown: Table, console: Console, *, spare: int = 0) -> None:
    """Prints a table; figures are never cut to fit a narrow terminal.

    Args:
      shown: the table.
      console: where.
      spare: columns by which its names may be wrapped.
    """
    width = max(console.width, _width(shown) - spare)
    # On a console as wide as the table: a narrower one would cut its figures.
    # Without markup, which brackets in the name of a folder would be.
    Console(file=console.file, width=width, markup=False).print(shown)


def show(groups: Sequence[Group], target: Target, console: Console) -> None:
    """Prints the table of groups; settings that it has no room for are below it."""
    every = list(groups[0].label)
    method = [name for name in every if name == METHOD]
    # Intervals give way before settings do.
    for names, spread in itertools.product((every, method, []), (True, False)):
        shown = table(groups, target, names, spread=spread)
        if _width(shown) <= console.width:
            break
    longest = max(len(group.name) for group in groups)
    show_whole(shown, console, spare=max(0, longest - LEAST_NAME))
    if below := [name for name in every if name not in names]:
        console.print("What differs:")
        for group in groups:
            line = words({name: group.label[name] for name in below})
            console.print(f"  {group.name}: {line}")


def compare_command(line: Line, console: Console) -> None:
    """Prints the table.

    Raises:
      ValueError: if a folder or an option makes no sense.
      OSError: if something cannot be read.
    """
    options, runs = select(line, Compare, console)
    # Costs over several channels could not be compared.
    if len({run.config.channel for run in runs}) > 1:
        channel = dataclasses.asdict(options.channel)
        strict = any(run.config.drop_stragglers for run in runs)
        but = ", but for deadlines of runs that excluded stragglers" if strict else ""
        console.print(
            f"costs of all runs are those of the first run's channel{but}: {channel}",
            soft_wrap=True,
        )
    if not options.charge_side:
        console.print(UNCHARGED)
    if note := late_note(runs, options.channel):
        console.print(note, soft_wrap=True)
    groups = grouped(runs, options.channel)
    given = None if options.target is None else Target(options.target)
    show(groups, given or usual_target(groups), console)
