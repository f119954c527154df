"""The table of a report: accuracy and cost of each group of runs."""

import html
from collections.abc import Sequence

import numpy as np

from fedjax_sl.reports.groups import (
    Group,
    at_target,
    interval,
    progress_axis,
    usual_target,
)
from fedjax_sl.reports.labels import METHOD, words


UNCHARGED = "Side information is not counted in bits, seconds and joules."

MOST_COLUMNS = 4
"""Options that fit into columns; if there are more, they get a second table."""


def _measured(group: Group, target: float, axis: str | None) -> dict[str, str]:
    """Returns the measured cells of a group by column heading."""
    mean, half = interval(group.final)
    spread = "" if np.isnan(half) else f" ± {half:.4f}"
    taken = at_target(group, target)
    return {
        "seeds": str(len(group.runs)),
        "final accuracy": f"{mean:.4f}{spread}",
        "reached": f"{taken.reached.sum()} of {len(group.runs)}",
        **({axis: taken.text(axis, 4)} if axis else {}),
        "Mbit up": taken.text("bits", 4, factor=1e-6),
        "seconds": taken.text("seconds", 4),
        "joules": taken.text("joules", 4),
    }


def _table(rows: Sequence[dict[str, str]]) -> str:
    """Returns rows of cells by column heading as an HTML table."""
    # A narrow screen shows no head: each cell carries its own.
    head = "".join(
        f'<th data-head="{html.escape(name)}">{html.escape(name)}</th>'
        for name in rows[0]
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{html.escape(name)}">{html.escape(cell)}</td>'
            for name, cell in row.items()
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{lines}</tbody></table></div>\n"
    )


def results(groups: Sequence[Group]) -> str:
    """Returns the results as HTML, with an explanation of the columns."""
    target, axis = usual_target(groups), progress_axis(groups)
    names = list(groups[0].label)
    shown = [name for name in names if name == METHOD or len(names) <= MOST_COLUMNS]
    below = [name for name in names if name not in shown]
    rows, apart = [], []
    for group in groups:
        label = {name: group.label[name] for name in shown}
        measured = _measured(group, target.accuracy, axis)
        rows.append({"run": group.name, **label, **measured})
        rest = words({name: group.label[name] for name in below})
        apart.append({"run": group.name, "settings that differ": rest})
    what = f"{axis.capitalize()}, bits" if axis else "Bits"
    return (
        f"<h2>Results</h2>\n{_table(rows)}<p>{what}, seconds and joules are the cost "
        f"when an accuracy of {target.accuracy:.4f} was first reached. "
        f"{html.escape(target.note)}</p>\n{_table(apart) if below else ''}"
    )
