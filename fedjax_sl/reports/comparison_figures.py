"""Figures that compare finished runs: accuracy against cost, and what pays."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np


matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: E402

from fedjax_sl.analysis.pareto import pareto_front  # noqa: E402
from fedjax_sl.reports.groups import Group, progress_axis  # noqa: E402
from fedjax_sl.reports.labels import accuracy_of  # noqa: E402
from fedjax_sl.reports.names import names_of  # noqa: E402
from fedjax_sl.theory.bound_curve import BoundCurve  # noqa: E402


AXES = {
    "rounds": ("round", 1.0),
    "epochs": ("passes over the training examples", 1.0),
    "bits": ("sent up, Mbit", 1e-6),
    "seconds": ("simulated time, s", 1.0),
    "joules": ("energy of all devices, J", 1.0),
}
"""Label and unit factor of the axes that accuracy is drawn against."""

COSTS = ("bits", "seconds", "joules")
"""The axes that are costs, which are comparable between any runs."""


def new_figure(
    columns: int = 1, rows: int = 1, height: float = 3.4
) -> tuple[Figure, Any]:
    """Makes a figure of axes, `[rows, columns]`."""
    # Figures are made without pyplot, which would keep them all alive.
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(4.6 * columns, height * rows), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _legend_below(figure: Figure, axis: Any, columns: int) -> None:
    """Adds one legend for all axes, from the curves of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    # Names of settings are as long as an axis is wide.
    place = "outside lower center"
    figure.legend(handles, labels, loc=place, ncols=columns, frameon=False)


def svg(figure: Figure) -> bytes:
    """Returns the figure as SVG, with text kept as text."""
    written = io.BytesIO()
    # No date, so that the same figure gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 10}):
        figure.savefig(
            written, format="svg", bbox_inches="tight", metadata={"Date": None}
        )
    return written.getvalue()


def _accuracy(groups: Sequence[Group]) -> str:
    return accuracy_of([group.runs[0].config for group in groups])


def accuracy(groups: Sequence[Group], *, columns: int = 2) -> Figure:
    """Draws accuracy against cost; a band spans the seeds, where all were evaluated."""
    progress = progress_axis(groups)
    shown = [progress, *COSTS] if progress else COSTS
    figure, axes = new_figure(columns, -(-len(shown) // columns))
    for unused in axes.flat[len(shown) :]:
        unused.set_visible(False)
    for axis, name in zip(axes.flat, shown, strict=False):
        label, factor = AXES[name]
        for number, (group, called) in enumerate(
            zip(groups, names_of(groups), strict=True)
        ):
            # There are ten colours: further groups have dashed lines.
            colour = f"C{number % 10}"
            x = factor * group.at_common(name).mean(axis=0)
            y = group.at_common("accuracy")
            style = "-" if number < 10 else "--"
            # A single evaluation is a point, not a line.
            marker = "o" if len(x) == 1 else ""
            axis.plot(
                x, y.mean(axis=0), style, color=colour, label=called, marker=marker
            )
            if len(y) > 1:
                low, high = y.min(axis=0), y.max(axis=0)
                axis.fill_between(x, low, high, color=colour, alpha=0.15)
        axis.set(xlabel=label, ylabel=_accuracy(groups))
        axis.grid(alpha=0.3)
    _legend_below(figure, axes[0, 0], columns)
    return figure


def pareto(groups: Sequence[Group], *, columns: int = 2) -> Figure:
    """Draws final accuracy against total seconds and joules, with the Pareto fronts."""
    figure, axes = new_figure(columns, 2 // columns, height=3.6)
    gain = np.array([np.mean(group.final) for group in groups])
    for axis, name in zip(axes.flat, ("seconds", "joules"), strict=True):
        cost = np.array([group.final_cost(name) for group in groups])
        for number, called in enumerate(names_of(groups)):
            marker = "o" if number < 10 else "s"
            axis.plot(
                cost[number],
                gain[number],
                marker,
                color=f"C{number % 10}",
                label=called,
            )
        best = pareto_front(cost, gain)
        axis.step(cost[best], gain[best], "k:", where="post", lw=1, label="best")
        axis.set(xlabel=AXES[name][0], ylabel=f"final {_accuracy(groups)}")
        # Runs may cost nearly the same: what is added to all would be in the label.
        axis.ticklabel_format(axis="x", useOffset=False)
        axis.grid(alpha=0.3)
    _legend_below(figure, axes[0, 0], columns)
    return figure


def labels(histogram: np.ndarray) -> Figure:
    """Draws the number of examples of each class that every client owns, `[N, C]`."""
    figure, axes = new_figure(1)
    axis = axes[0, 0]
    image = axis.imshow(histogram, cmap="Blues", aspect="auto", interpolation="nearest")
    axis.set(xlabel="class", ylabel="client")
    figure.colorbar(image, label="training examples")
    return figure


def theory(found: BoundCurve) -> Figure:
    """Draws the bound against rounds, beside the running mean of measured values."""
    figure, axes = new_figure(1, height=3.8)
    axis = axes[0, 0]
    axis.plot(found.rounds, found.bound, color="C3", label="bound, constants estimated")
    if found.unpruned != found.bound:
        label = "the same without its terms for pruning"
        axis.plot(found.rounds, found.unpruned, "--", color="C3", label=label)
    axis.plot(
        found.points[1:],
        found.running_mean,
        "o-",
        color="C0",
        label="measured, mean so far",
    )
    axis.set(xlabel="round", ylabel="mean squared gradient", yscale="log")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    return figure
