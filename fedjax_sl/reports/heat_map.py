"""Heat maps of accuracy over two options, one for each combination of the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fedjax_sl.reports.groups import Group
from fedjax_sl.reports.labels import words


MOST_MAPS = 6


class HeatMap(NamedTuple):
    """Final accuracies, means over seeds.

    Attributes:
      names: options of the rows and of the columns.
      rows, columns: their values.
      maps: `[R, C]` accuracies by the values of the other options in words, NaN where
        there is no run.
    """

    names: tuple[str, str]
    rows: list[str]
    columns: list[str]
    maps: dict[str, np.ndarray]


def heat_map(groups: Sequence[Group]) -> HeatMap | None:
    """Returns final accuracies over the first two options that differ.

    None if fewer differ, or if the groups form no grid: a cell has at most one group,
    and at least half of the cells have one.
    """
    names = list(groups[0].label)
    if len(names) < 2:
        return None
    row, column, *others = names
    rows, columns = (
        list(dict.fromkeys(group.label[name] for group in groups))
        for name in (row, column)
    )
    maps: dict[str, np.ndarray] = {}
    for group in groups:
        other = words({name: group.label[name] for name in others})
        cells = maps.setdefault(other, np.full((len(rows), len(columns)), np.nan))
        cell = rows.index(group.label[row]), columns.index(group.label[column])
        # Groups of one label repeat a seed, or were evaluated at other rounds.
        if not np.isnan(cells[cell]):
            return None
        cells[cell] = np.mean(group.final)
    cells = len(maps) * len(rows) * len(columns)
    if len(maps) > MOST_MAPS or 2 * len(groups) < cells:
        return None
    return HeatMap((row, column), rows, columns, maps)


def _draw(axis: Any, found: HeatMap, title: str, *, low: float, high: float) -> Any:
    """Draws one map, with a number in each cell that has one."""
    cells = found.maps[title]
    image = axis.imshow(cells, cmap="viridis", aspect="auto", vmin=low, vmax=high)
    for (r, c), value in np.ndenumerate(cells):
        if not np.isnan(value):
            # viridis is dark at its lower end, which is all of it if values are equal.
            colour = "black" if value >= (low + high) / 2 and low < high else "white"
            axis.text(c, r, f"{value:.3f}", ha="center", va="center", color=colour)
    axis.set(title=title, ylabel=found.names[0], xlabel=found.names[1])
    axis.set_xticks(range(len(found.columns)), found.columns)
    axis.set_yticks(range(len(found.rows)), found.rows)
    return image


def draw(found: HeatMap) -> Figure:
    """Draws the maps below one another, with one colour scale."""
    count, height = len(found.maps), 1.2 + 0.45 * len(found.rows)
    figure = Figure(figsize=(4.6, max(3.4, count * height)), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False)
    every = np.concatenate([cells.ravel() for cells in found.maps.values()])
    low, high = np.nanmin(every), np.nanmax(every)
    for axis, title in zip(axes.flat, found.maps, strict=True):
        image = _draw(axis, found, title, low=low, high=high)
    # One scale for all maps, so that any of them will do.
    figure.colorbar(image, ax=axes.ravel().tolist(), label="final accuracy")
    return figure
