"""Tables and the chart of the study of FedLP-Q, beside what is published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.claims import Claim, Rows, final, spread, verdicts
from experiments.fedlpq_setting import (
    BITS,
    HEADS,
    PARTITIONS,
    READINGS,
    SCHEMES,
    USUAL,
    Scale,
)
from fedjax_sl.fedlpq.estimates.savings import heterogeneous, homogeneous
from fedjax_sl.records.run_folder import write_text
from fedjax_sl.reports.groups import interval


PUBLISHED = {
    "FedAvg": ((78.8, 75.3), (76.2, 74.9), (71.7, 68.5)),
    "(0.2)": ((73.4, 68.2), (71.5, 66.8), (56.6, 50.4)),
    "(0.5)": ((75.5, 73.5), (75.4, 72.5), (66.7, 62.0)),
    "(0.8)": ((78.9, 77.3), (78.3, 76.2), (71.3, 66.9)),
    "(1)": ((64.4, 60.3), (64.1, 59.2), (53.6, 49.4)),
    "(3)": ((66.8, 62.0), (66.1, 61.7), (58.4, 53.9)),
    "(u)": ((70.1, 66.5), (68.3, 65.4), (60.7, 55.7)),
    "(5)": ((74.6, 73.1), (74.4, 72.1), (68.6, 64.5)),
}
"""Accuracy in percent, (iid, non-iid), for no quantisation, 10 and 8 bits."""

RISING = (
    *(("(0.2)", "(0.5)"), ("(0.5)", "(0.8)"), ("(0.8)", "FedAvg")),
    *(("(1)", "(3)"), ("(3)", "(u)"), ("(u)", "(5)")),
)
"""Neighbours, the lower first; the published (0.8) is above FedAvg."""


def runs_of(rows: Rows, change: dict[str, Any]) -> dict[int, float]:
    """Returns the final accuracy of the runs with this change, by seed."""
    wanted = USUAL | change
    mine = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return {row["seed"]: final(row) for row in mine}


def lost(rows: Rows, change: dict[str, Any], to: dict[str, Any]) -> list[float]:
    """Returns the accuracy that a run loses to another of the same seed."""
    one, other = runs_of(rows, change), runs_of(rows, to)
    return [other[seed] - one[seed] for seed in one if seed in other]


def claims(rows: Rows) -> list[Claim]:
    """Returns which schemes end lower than their neighbours, paired over seeds."""
    found = []
    for low, high in RISING:
        gap = [-loss for loss in lost(rows, {"scheme": low}, {"scheme": high})]
        if gap:
            text = f"{low} ends lower than {high}"
            found.append(Claim(text, "difference of accuracies", *interval(gap), 0.0))
    return found


def disjoint(rows: Rows) -> list[str]:
    """Returns the neighbours whose intervals do not overlap."""
    found = []
    for low, high in RISING:
        (a, below), (b, above) = (
            interval(list(runs_of(rows, {"scheme": scheme}).values()) or [np.nan])
            for scheme in (low, high)
        )
        if a + below < b - above:
            found.append(f"{low} < {high}")
    return found


def _savings(scheme: str) -> tuple[str, str]:
    """The saved parameters and operations, in percent, as published."""
    keep, preference = SCHEMES[scheme]
    saving = homogeneous(keep) if preference is None else heterogeneous(preference)
    return f"{100 * saving.params:.1f}", f"{100 * saving.flops_published:.1f}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Formats cells as Markdown."""
    body = [heads, ["---"] * len(heads), *lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in body)


def _percent(values: Sequence[float]) -> str:
    return spread([100 * value for value in values], 1) if values else "–"


def order(rows: Rows) -> str:
    """Formats accuracy and savings of each scheme, without quantisation."""
    lines = []
    for scheme in SCHEMES:
        mine = runs_of(rows, {"scheme": scheme})
        published = f"{PUBLISHED[scheme][0][0]:.1f}"
        seeds, accuracy = str(len(mine)), _percent(list(mine.values()))
        lines.append((scheme, seeds, accuracy, published, *_savings(scheme)))
    heads = ("scheme", "seeds", "accuracy, %", "published", "#Param ↘ %", "MFLOPs ↘ %")
    apart = ", ".join(disjoint(rows)) or "none"
    return f"{_table(heads, lines)}\nNeighbours of disjoint intervals: {apart}.\n"


def readings(rows: Rows) -> str:
    """Formats the accuracy lost to float32 under each reading of the quantiser."""
    lines = []
    for change in READINGS:
        scheme, bits = change["scheme"], change["bits"]
        loss = lost(rows, change, {"scheme": scheme})
        none, coded = PUBLISHED[scheme][0][0], PUBLISHED[scheme][BITS.index(bits)][0]
        cells = (str(len(loss)), _percent(loss), f"{none - coded:.1f}")
        lines.append((scheme, str(bits), change["rounding"], *cells))
    heads = ("scheme", "bits", "rounding", "seeds", "points lost", "published")
    return _table(heads, lines)


def heads(rows: Rows) -> str:
    """Formats accuracy with private heads kept, and reset in every round."""
    lines = []
    for change in HEADS:
        scheme = {"scheme": change["scheme"]}
        both = (runs_of(rows, scheme), runs_of(rows, change))
        cells = [_percent(list(each.values())) for each in both]
        lost_by_reset = _percent(lost(rows, change, scheme))
        lines.append((change["scheme"], *cells, lost_by_reset))
    return _table(("scheme", "kept", "reset", "lost, paired"), lines)


def whole(rows: Rows, rounding: str) -> str:
    """Formats the published table, its figures in brackets."""
    lines = []
    for scheme in SCHEMES:
        cells = []
        for place, bits in enumerate(BITS):
            for side, partition in enumerate(PARTITIONS):
                change = {"scheme": scheme, "bits": bits, "partition": partition}
                # Nothing is rounded in float32.
                change |= {"rounding": rounding} if bits < 32 else {}
                mine = _percent(list(runs_of(rows, change).values()))
                cells.append(f"{mine} ({PUBLISHED[scheme][place][side]:.1f})")
        lines.append((scheme, *cells))
    names = ["none", *(f"{bits} bits" for bits in BITS[1:])]
    columns = [f"{name}, {partition}" for name in names for partition in PARTITIONS]
    return _table(("scheme", *columns), lines)


def chart(rows: Rows) -> Figure:
    """Draws the accuracy of each scheme with its interval, and the published one."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    for place, scheme in enumerate(SCHEMES):
        mine = [100 * value for value in runs_of(rows, {"scheme": scheme}).values()]
        if mine:
            mean, half = interval(mine)
            axis.errorbar(place, mean, half, fmt="o", capsize=4, color="C0")
            axis.plot([place] * len(mine), mine, ".", color="C0", alpha=0.4)
        axis.plot(place, PUBLISHED[scheme][0][0], "_", markersize=16, color="C1")
    axis.plot([], [], "o", color="C0", label="here: mean, 95 % interval, seeds")
    axis.plot([], [], "_", color="C1", markersize=12, label="published, 200 rounds")
    axis.set_xticks(range(len(SCHEMES)), list(SCHEMES))
    axis.set(ylabel="test accuracy, %", xlabel="scheme")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 1.15), ncols=2)
    return figure


def write_reading(scale: Scale, rows: Rows, folder: Path, name: str) -> None:
    """Writes tables and the chart beside the rows.

    Args:
      scale: size of the study.
      rows: rows of all its runs.
      folder: output folder.
      name: stem of the file names.
    """
    setting = (
        f"CIFAR-10, the published network, 100 clients, 10 a round, E = "
        f"{scale.local_epochs}, {scale.rounds} rounds; published: E = 5, 200 rounds. "
        "Accuracy is the mean of the last three evaluations, with 95 % t-intervals "
        "over seeds; iid where nothing else is said."
    )
    parts = [
        *(f"{setting}\n", "## Schemes, without quantisation\n", order(rows)),
        *("## Order\n", verdicts(claims(rows))),
        *("## Readings of the quantiser\n", readings(rows)),
        *("## Private heads\n", heads(rows)),
        *("## The published table, unbiased\n", whole(rows, "stochastic")),
        *("## The published table, rounded down\n", whole(rows, "floor")),
    ]
    write_text(folder / f"{name}.md", "\n".join(parts))
    chart(rows).savefig(folder / f"{name}.svg")
