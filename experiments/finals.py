"""Runs cells, and keeps a table of their final accuracies over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.script import RESULTS
from fedjax_sl.records.run_folder import write_text
from fedjax_sl.reports.groups import interval


def final_table(
    rows: Sequence[Mapping[str, Any]], by: str, published: Mapping[str, str]
) -> str:
    """Formats mean and 95 % t-interval over seeds, epochs, hours and code.

    Args:
      rows: of cells.
      by: the label that tells settings apart.
      published: what others reached in the same setting, by label.

    Returns:
      A Markdown table.
    """
    lines = [
        f"| {by} | seeds | accuracy | epochs | hours of a run | published | code |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row[by] for row in rows):
        mine = [row for row in rows if row[by] == name]
        mean, half = interval([row["accuracy"][-1] for row in mine])
        spread = f" ± {half:.3f}" if len(mine) > 1 else ""
        hours = max(row["hours"] for row in mine)
        codes = ", ".join(dict.fromkeys(row["code"] for row in mine))
        lines.append(
            f"| {name} | {len(mine)} | {mean:.3f}{spread} "
            f"| {mine[0]['epochs'][-1]:.3g} | {hours:.2f} "
            f"| {published.get(name, '')} | {codes} |"
        )
    return "\n".join(lines) + "\n"


def paired_table(
    rows: Sequence[Mapping[str, Any]], by: str, pairs: Mapping[str, str]
) -> str:
    """Formats what settings save and lose against others, paired over seeds.

    Args:
      rows: of cells.
      by: the label that tells settings apart.
      pairs: the setting that another one is compared with.

    Returns:
      A Markdown table of pairs with two seeds in common or more; empty without any.
    """
    lines = []
    for name, plain in pairs.items():
        both = [
            (row, other)
            for row in rows
            for other in rows
            if (row[by], other[by]) == (name, plain) and row["seed"] == other["seed"]
        ]
        if len(both) < 2:
            continue
        lost, half = interval(
            [100 * (b["accuracy"][-1] - a["accuracy"][-1]) for a, b in both]
        )
        fewer, seconds = (
            np.mean([b[cost][-1] / a[cost][-1] for a, b in both])
            for cost in ("uplink_bits", "seconds")
        )
        lines.append(
            f"| {name} | {plain} | {len(both)} | {lost:.1f} ± {half:.1f} "
            f"| {fewer:.1f} times | {seconds:.1f} times |"
        )
    if not lines:
        return ""
    head = (
        f"| {by} | against | seeds | points lost | fewer bits up | fewer seconds |",
        "|---|---|---|---|---|---|",
    )
    return "\n".join((*head, *lines)) + "\n"


def keep_table(
    name: str,
    cells: Iterable[Cell],
    *,
    by: str,
    head: str,
    published: Mapping[str, str],
    pairs: Mapping[str, str] | None = None,
) -> None:
    """Runs what is missing, and writes the table after each run.

    Args:
      name: of the files in the results folder, and of the folder of the runs.
      cells: of the experiment.
      by: as of `final_table`.
      head: what stands above the table.
      published: as of `final_table`.
      pairs: as of `paired_table`, which follows; none if not given.
    """
    console = Console(highlight=False)
    path, folders = RESULTS / f"{name}.jsonl", FOLDERS / name
    for rows in rows_of(cells, path, folders=folders, console=console):
        parts = (final_table(rows, by, published), paired_table(rows, by, pairs or {}))
        table = "\n".join(part for part in parts if part)
        write_text(path.with_suffix(".md"), f"{head}\n{table}")
        console.print(table)
