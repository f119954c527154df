"""A figure with a bar for each layer of a client."""

import numpy as np
from matplotlib.figure import Figure

from fedjax_sl.method_spec import LayerBars
from fedjax_sl.reports.comparison_figures import mean_and_range


def layer_bars(found: LayerBars) -> Figure:
    """Horizontal bars, the first layer at the top; for any screen.

    Parts are stacked; of several clients the mean is drawn, and a line spans them.
    """
    figure = Figure(figsize=(4.6, 1.6 + 0.26 * len(found.layers)), layout="constrained")
    axis = figure.subplots()
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    places, left = np.arange(len(found.layers)), np.zeros(len(found.layers))
    for (label, part), color in zip(found.parts.items(), COLORS, strict=False):
        mean, spread = (part, None) if part.ndim == 1 else mean_and_range(part)
        axis.barh(
            places,
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
        axis.plot(values, places, "D", color="C3", ms=5, label=label)
    axis.set(xlabel=found.axis, ylabel="layer")
    axis.set_yticks(places, found.layers)
    if len(found.parts) + len(found.marks) > 1:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


COLORS = ("C0", "0.7", "C1", "C2", "C4")
"""Of parts that are stacked, in their order."""
