"""Tables and figures of the study of FedSL."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.claims import Rows, spread, verdicts
from experiments.fedsl_claims import (
    CHANGES,
    VIEWS,
    claims,
    common,
    finals,
    runs_of,
    targets,
    until,
)
from experiments.fedsl_setting import (
    COMPRESSORS,
    CUTS,
    INTERVALS,
    RATIOS,
    READINGS,
    SCHEDULES,
    TECHNIQUES,
    Scale,
    name_of,
    settings,
)
from fedjax_sl.records.run_folder import write_text
from fedjax_sl.reports.groups import interval


Question = dict[Any, dict[str, Any]]


def _named(key: Any, heads: tuple[str, ...]) -> list[str]:
    return [str(part) for part in (key if len(heads) > 1 else (key,))]


def finished(rows: Rows, question: Question) -> Question:
    """Returns the settings of which there is a run."""
    return {key: v for key, v in question.items() if runs_of(rows, v)}


def table(rows: Rows, heads: tuple[str, ...], question: Question) -> str:
    """Formats accuracy and cost of each setting as Markdown."""
    best = targets(rows, *question.values())
    columns = (
        *("accuracy", "of the pruned model", "Gbit up", "of updates", "Gbit down"),
        *("seconds", "seconds to it", "in a tenth of the band", "joules to it"),
    )
    lines = ["| " + " | ".join((*heads, *columns)) + " |"]
    lines.append("|---" * (len(heads) + len(columns)) + "|")
    for key, change in question.items():
        found = runs_of(rows, change)
        cells = [
            *(spread(finals(rows, change, view), 3) for view in VIEWS),
            *(
                f"{np.mean([bits_of(row) for row in found]) / 1e9:.3g}"
                for bits_of in (
                    lambda row: row["uplink_bits"][-1],
                    lambda row: row["updates_up_bits"],
                    lambda row: row["downlink_bits"][-1],
                )
            ),
            f"{np.mean([row['seconds'][-1] for row in found]):.0f}",
            *(
                # Earlier rows lack some.
                spread(until(rows, change, best, cost), 0)
                if all(cost in row for row in found)
                else ""
                for cost in ("seconds", "slow_seconds", "joules")
            ),
        ]
        lines.append("| " + " | ".join(_named(key, heads) + cells) + " |")
    level = f"{best.min():.3f} to {best.max():.3f}"
    note = (
        f"The last three columns are costs of reaching {level}, the highest accuracy "
        "that all of these reach in a seed."
    )
    return "\n".join(lines) + f"\n\n{note}\n"


def curves(rows: Rows) -> Figure:
    """Draws accuracy of each technique against rounds, uplink bits and time."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for name, change in (TECHNIQUES | CHANGES).items():
        if not (found := runs_of(rows, change)):
            continue
        accuracy = np.array([row["accuracy"] for row in found])
        drawn = zip(
            axes, ("rounds", "uplink_bits", "seconds"), (1, 1e-9, 1), strict=True
        )
        for axis, cost, factor in drawn:
            x = factor * np.mean([row[cost] for row in found], axis=0)
            (line,) = axis.plot(x, accuracy.mean(axis=0), label=name)
            low, high = accuracy.min(axis=0), accuracy.max(axis=0)
            axis.fill_between(x, low, high, alpha=0.12, color=line.get_color())
    for axis, label in zip(
        axes, ("round", "sent up, Gbit", "simulated time, s"), strict=True
    ):
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="test accuracy")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _points(axis, rows: Rows, named: Question) -> None:
    """Draws the final accuracy of each setting with its interval."""
    for name, change in named.items():
        if runs_of(rows, change):
            mean, half = interval(finals(rows, change).tolist())
            axis.errorbar(mean, name, xerr=half, fmt="o", capsize=3, color="C0")
    axis.margins(y=0.15)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.set(xlabel="final test accuracy")


def _cuts(axis, rows: Rows, cuts: Question, scale: Scale) -> None:
    """Draws the final accuracy against the cut, of the seeds that all cuts have."""
    rows = common(rows, *finished(rows, cuts).values())
    for name in ("plain", "50 % dropped"):
        known = [cut for cut in range(4) if runs_of(rows, cuts[cut, name])]
        known.sort(key=scale.cuts.__getitem__)
        found = [interval(finals(rows, cuts[cut, name]).tolist()) for cut in known]
        means, halves = zip(*found, strict=True) if found else ((), ())
        layers = [scale.cuts[cut] for cut in known]
        axis.errorbar(layers, means, halves, label=name, capsize=3, marker="o")
    axis.set(xlabel="convolutions on the client (L_c)", xticks=sorted(scale.cuts))
    axis.set(ylabel="final test accuracy")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def choices(scale: Scale, rows: Rows) -> Figure | None:
    """Draws final accuracy against cut, interval, share pruned and open choices.

    Returns:
      A plot for each question of which settings can be compared; None if there is none.
    """
    by_interval = {f"I = {number}": change for number, change in INTERVALS.items()}
    by_share = {f"{100 * ratio:g} %": change for ratio, change in RATIOS.items()}
    panels: tuple[tuple[str, Question, Any], ...] = (
        ("cut", CUTS, partial(_cuts, scale=scale)),
        ("aggregation every I rounds", by_interval, _points),
        ("share pruned", by_share, _points),
        ("open choices", READINGS, _points),
    )
    known = [panel for panel in panels if len(finished(rows, panel[1])) > 1]
    if not known:
        return None
    lines = -(-len(known) // 2)
    figure = Figure(figsize=(11, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False).flat
    for axis, (title, question, draw) in zip(axes, known, strict=False):
        axis.set_title(title)
        draw(axis, rows, question)
    for axis in axes[len(known) :]:
        axis.remove()
    return figure


TABLES: tuple[tuple[str, tuple[str, ...], Question], ...] = (
    ("Each technique", ("",), TECHNIQUES),
    (
        "The plain scheme in a share of the rounds",
        ("share",),
        {1.0: {}} | SCHEDULES,
    ),
    ("Share of filters pruned, nothing else", ("share",), RATIOS),
    ("Rounds between two aggregations, everything on", ("I",), INTERVALS),
    ("Open choices, everything on", ("",), READINGS),
    (
        "Compressors of the activations, updates in 8 bits",
        ("activations",),
        COMPRESSORS,
    ),
)
"""Heading, names of the columns, and settings of each table."""


def write_reading(scale: Scale, rows: Rows, folder: Path, name: str) -> None:
    """Writes tables and figures beside the rows.

    Args:
      scale: size of the study.
      rows: rows of all its runs.
      folder: output folder.
      name: stem of the file names.
    """
    epochs = scale.rounds * 10 * scale.batch_size / 50_000
    setting = (
        f"VGG-{scale.depth}, {scale.width:g} of its width, CIFAR-10, ten clients with "
        f"batches of {scale.batch_size}, {scale.rounds} rounds ({epochs:.0f} epochs), "
        "the seeds that all settings of a table have; cut after convolution "
        f"{scale.cuts[0]} but in the last table. Accuracies are means of the last "
        "three evaluations, with 95 % t-intervals over seeds. A round of the default "
        "channel shares 10 MHz; a tenth of the band is 1 MHz. Places of the clients "
        "and fades are the same in all runs: no interval is over channels."
    )
    reading = (
        "What is sooner than the whole plain run need not be sooner than a shorter one "
        "on a schedule of its own: a claim is decided by the line that says so, where "
        "there is one. Of so many intervals one in twenty is wrong by chance."
    )
    found = claims(rows)
    parts = [f"{setting}\n", "## Claims\n", f"{reading}\n", verdicts(found)]
    by_cut = {(scale.cuts[cut], name): v for (cut, name), v in CUTS.items()}
    shown: set[str] = set()
    for heading, heads, question in (*TABLES, ("Cuts", ("L_c", "techniques"), by_cut)):
        known = finished(rows, question)
        # Such as the share 0 alone, which is the plain scheme of the first table.
        names = {name_of(settings(change)) for change in known.values()}
        if names - shown and (shared := common(rows, *known.values())):
            shown |= names
            parts += [f"## {heading}\n", table(shared, heads, known)]
    write_text(folder / f"{name}.md", "\n".join(parts))
    curves(rows).savefig(folder / f"{name}_courses.svg")
    if figure := choices(scale, rows):
        figure.savefig(folder / f"{name}_choices.svg")
