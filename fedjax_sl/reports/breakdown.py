"""Where the time and the bits of runs go: seconds by phase, bits by link."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.records.finished_run import costs_over
from fedjax_sl.reports.comparison_figures import new_figure
from fedjax_sl.reports.groups import Group
from fedjax_sl.reports.names import names_of
from fedjax_sl.traffic import AT_SECOND_CUT, Record


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

SIDE = ("side information", "0.5")

Parts = dict[tuple[str, str], np.ndarray]
"""Values of each group by label and colour."""


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
    # Side information has a bar of its own, of all links together.
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
    figure, axes = new_figure(columns, 2 // columns, height=2.9 + 0.28 * len(groups))
    seconds, traffic = axes.flat
    costs = [costs_over(group.runs[0], channel) for group in groups]
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
