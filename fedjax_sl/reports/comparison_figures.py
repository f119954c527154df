"""Figures that compare finished runs: accuracy against cost, time, and traffic."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np


matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: E402
from matplotlib.transforms import ScaledTranslation  # noqa: E402

from fedjax_sl.analysis.channel import Channel  # noqa: E402
from fedjax_sl.analysis.latency import round_costs  # noqa: E402
from fedjax_sl.analysis.pareto import pareto_front  # noqa: E402
from fedjax_sl.reports.groups import Group, progress_axis  # noqa: E402
from fedjax_sl.reports.labels import words  # noqa: E402
from fedjax_sl.theory.bound_curve import BoundCurve  # noqa: E402
from fedjax_sl.traffic import AT_SECOND_CUT, Record  # noqa: E402


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

SPANS = {
    "up": ("client forward, activations up", "C0"),
    "server": ("server", "C1"),
    "tail": ("second cut, client's tail", "C6"),
    "down": ("gradients down, client backward", "C2"),
    "updates": ("updates up", "C3"),
    "models": ("models down", "C4"),
}
"""Label and colour of the phases of a round."""

LINKS = {
    "activations_up": ("activations up", "C0"),
    "labels_up": ("labels up", "C5"),
    "features_down": ("features down", "C6"),
    "gradients_up": ("gradients up", "C8"),
    "gradients_down": ("gradients down", "C2"),
    "updates_up": ("updates up", "C3"),
    "model_down": ("models down", "C4"),
}
"""Label and colour of the links, side information apart."""

MOST_NAMED = 4
"""Largest number of options that fit into a name beside a picture."""

SIDE = ("side information", "0.5")

Parts = dict[tuple[str, str], np.ndarray]
"""Values of each group by label and colour."""


def _figure(columns: int = 1, rows: int = 1, height: float = 3.4) -> tuple[Figure, Any]:
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


def name_of(group: Group) -> str:
    """Returns a group's options as a short text, or its folder if they are many."""
    if len(group.label) > MOST_NAMED:
        return f"{group.name} ({group.title})"
    return words(group.label) or group.title


def names_of(groups: Sequence[Group]) -> list[str]:
    """Returns a unique name of each group for pictures."""
    names = [name_of(group) for group in groups]
    if len(set(names)) == len(names):
        return names
    return [f"{group.name} ({group.title})" for group in groups]


def accuracy(groups: Sequence[Group], *, columns: int = 2) -> Figure:
    """Draws accuracy against cost; a band spans the seeds, where all were evaluated."""
    progress = progress_axis(groups)
    shown = [progress, *COSTS] if progress else COSTS
    figure, axes = _figure(columns, -(-len(shown) // columns))
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
        axis.set(xlabel=label, ylabel="test accuracy")
        axis.grid(alpha=0.3)
    _legend_below(figure, axes[0, 0], columns)
    return figure


def _stacked(axis: Any, groups: Sequence[Group], parts: Parts) -> None:
    """Draws a horizontal bar for each group, its parts stacked."""
    names = names_of(groups)
    left = np.zeros(len(groups))
    for (label, colour), values in parts.items():
        axis.barh(names, values, left=left, label=label, color=colour, height=0.7)
        left = left + values
    # matplotlib warns of an axis from 0 to 0.
    axis.set_xlim(0, 1.05 * max(left.max(), 1e-12))
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    # Below the label of the axis, however low the axes are.
    below = axis.transAxes + ScaledTranslation(0, -0.5, axis.figure.dpi_scale_trans)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        frameon=False,
    )


def _payload(record: Record, link: str) -> np.ndarray:
    """Returns the bits of a link without side information, `[T, K]`."""
    return getattr(record.traffic, link) - getattr(record.side, link)


def _parts(
    shown: dict[str, tuple[str, str]], values: Callable[[str], list[float]]
) -> Parts:
    """Values of each group; of a second cut only if some network has one."""
    found = {name: np.array(values(name)) for name in shown}
    second = (*AT_SECOND_CUT, "tail")
    return {shown[n]: x for n, x in found.items() if n not in second or x.any()}


def where_time_goes(
    groups: Sequence[Group], channel: Channel, *, columns: int = 2
) -> Figure:
    """Draws the seconds by phase and the bits by link of each group's first run."""
    figure, axes = _figure(columns, 2 // columns, height=2.9 + 0.28 * len(groups))
    seconds, traffic = axes.flat
    costs = [
        round_costs(
            channel, group.runs[0].record, sequential=group.runs[0].config.sequential
        )
        for group in groups
    ]
    parts = _parts(SPANS, lambda name: [getattr(run, name).sum() for run in costs])
    _stacked(seconds, groups, parts)
    seconds.set(xlabel="seconds of the whole run")
    records = [group.runs[0].record for group in groups]
    bits = _parts(
        LINKS, lambda name: [1e-6 * _payload(run, name).sum() for run in records]
    )
    bits[SIDE] = np.array(
        [1e-6 * sum(x.sum() for x in record.side) for record in records]
    )
    _stacked(traffic, groups, bits)
    traffic.set(xlabel="Mbit of the whole run")
    # Beside each other, both pictures share the names.
    traffic.tick_params(axis="y", labelleft=columns == 1)
    return figure


def pareto(groups: Sequence[Group], *, columns: int = 2) -> Figure:
    """Draws final accuracy against total seconds and joules, with the Pareto fronts."""
    figure, axes = _figure(columns, 2 // columns, height=3.6)
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
        axis.set(xlabel=AXES[name][0], ylabel="final test accuracy")
        axis.grid(alpha=0.3)
    _legend_below(figure, axes[0, 0], columns)
    return figure


def labels(histogram: np.ndarray) -> Figure:
    """Draws the number of examples of each class that every client owns, `[N, C]`."""
    figure, axes = _figure(1)
    axis = axes[0, 0]
    image = axis.imshow(histogram, cmap="Blues", aspect="auto", interpolation="nearest")
    axis.set(xlabel="class", ylabel="client")
    figure.colorbar(image, label="training examples")
    return figure


def theory(found: BoundCurve) -> Figure:
    """Draws the bound against rounds, beside the running mean of measured values."""
    figure, axes = _figure(1, height=3.8)
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
