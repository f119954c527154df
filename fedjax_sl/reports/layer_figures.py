"""Figures of what a client sends of each of its layers."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fedjax_sl.reports.comparison_figures import mean_and_range
from fedjax_sl.reports.messages import CodeLengths
from fedjax_sl.reports.updates import UpdateBits


def _bars(layers: int) -> tuple[Figure, Any]:
    """An axis for one horizontal bar a layer, the first at the top; for any screen."""
    figure = Figure(figsize=(4.6, 1.6 + 0.26 * layers), layout="constrained")
    axis = figure.subplots()
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure, axis


def code_lengths(found: CodeLengths) -> Figure:
    """Bits per element of each layer's message, beside the entropy of its indices."""
    figure, axis = _bars(len(found.layers))
    places = np.arange(len(found.layers))
    header = found.message - found.payload
    axis.barh(places, found.payload, color="C0", label="codewords and signs")
    axis.barh(places, header, left=found.payload, color="0.7", label="norm and header")
    axis.plot(found.entropy, places, "D", color="C3", ms=5, label="entropy of indices")
    axis.set(xlabel="bits per element", ylabel="layer")
    axis.set_yticks(places, found.layers)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def update_bits(found: UpdateBits) -> Figure:
    """Bits of the numbers in an update by layer, mean and range over the clients."""
    figure, axis = _bars(len(found.layers))
    mean, spread = mean_and_range(1e-3 * found.bits)
    places = np.arange(len(found.layers))
    axis.barh(places, mean, xerr=spread, color="C0", ecolor="0.3", capsize=3)
    axis.set(xlabel="numbers of an update, kbit", ylabel="layer of the client")
    axis.set_yticks(places, found.layers)
    return figure
