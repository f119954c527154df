"""Bar charts with a bar for each layer of a client."""

import numpy as np
from matplotlib.figure import Figure

from fedjax_sl.method_spec import LayerBars


COLORS = ("C0", "0.7", "C1", "C2", "C4")
"""Colours of stacked parts, in their order."""


def layer_bars(found: LayerBars) -> Figure:
    """Draws horizontal bars, the first layer at the top, narrow enough for any screen.

    Parts are stacked. For several clients the mean is drawn, with a line for the range.
    """
    figure = Figure(figsize=(4.6, 1.6 + 0.26 * len(found.layers)), layout="constrained")
    axis = figure.subplots()
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    positions, left = np.arange(len(found.layers)), np.zeros(len(found.layers))
    # More parts than there are colours would not be drawn.
    for (label, part), color in zip(found.parts.items(), COLORS, strict=False):
        mean, spread = (part, None) if part.ndim == 1 else mean_and_range(part)
        axis.barh(
            positions,
            mean,
            left=left,
            xerr=spread,
            color=color,
            ecolor="0.3",
            capsize=3,
            label=label,
        )
        left = left + mean
    for label, values in found.marks.items():
        axis.plot(values, positions, "D", color="C3", ms=5, label=label)
    axis.set(xlabel=found.axis, ylabel="layer")
    axis.set_yticks(positions, found.layers)
    if len(found.parts) + len(found.marks) > 1:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of `[K, U]` values over K, `[U]`, and the spread, `[2, U]`."""
    mean = values.mean(axis=0)
    # The mean of equal numbers may lie outside them, by rounding.
    spread = [mean - values.min(axis=0), values.max(axis=0) - mean]
    return mean, np.maximum(spread, 0.0)
