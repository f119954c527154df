"""The pictures of a report, with their headings and alternative texts."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fedjax_sl import reading
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.errors import InputError
from fedjax_sl.methods import spec_of
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.finished_run import Finished
from fedjax_sl.reports import comparison_figures
from fedjax_sl.reports.breakdown import where_time_goes
from fedjax_sl.reports.groups import Group, progress_axis
from fedjax_sl.reports.heat_map import draw, heat_map
from fedjax_sl.reports.last_checkpoint import last_checkpoint
from fedjax_sl.reports.layer_figures import layer_bars
from fedjax_sl.reports.names import best
from fedjax_sl.theory import bound_curve
from fedjax_sl.theory.bound_curve import said_of


class Picture(NamedTuple):
    """A figure with its file name, heading, alternative text and caption.

    A figure of several columns also has a version of one column for narrow screens.
    """

    name: str
    heading: str
    alt: str
    figure: Figure
    caption: str = ""
    narrow: Figure | None = None


def _of_layers(run: Finished) -> list[Picture]:
    """Returns the charts that the method draws from the run's last checkpoint."""
    found, seen = [], last_checkpoint(run)
    if seen is None:
        return []
    for panel in spec_of(run.config).panels:
        try:
            bars = panel(seen)
        # A report is worth having without one of its pictures.
        except (ValueError, OSError) as error:
            warnings.warn(f"no picture of {panel.__name__}: {error}", stacklevel=2)
            continue
        if bars is not None:
            figure = layer_bars(bars)
            found.append(
                Picture(bars.name, bars.heading, bars.alt, figure, caption=bars.caption)
            )
    return found


def _theory(folder: Path) -> Picture | None:
    """Returns the bound beside the measurement, if `bound` was run on the folder."""
    found = bound_curve.read(folder)
    if found is None:
        return None
    last, most = found.running_mean[-1], found.bound[-1]
    alt = (
        "Mean squared gradient against rounds on a logarithmic axis: measured, "
        f"{last:.3g} over {found.points[-1]} rounds, and the bound, {most:.3g}, whose "
        "constants are estimated."
    )
    # A run's bound kept by an earlier version names its momentum only.
    left_out = found.left_out or [f"momentum={found.momentum:g}"] * bool(found.momentum)
    caption = (
        f"The bound is FedSL's theorem for these settings. {said_of(left_out)} Its "
        f"constants are estimates from the {len(found.points)} models at which "
        "gradients were taken: no proof that the bound holds."
    )
    figure = comparison_figures.theory(found)
    return Picture("bound", "Theory and measurement", alt, figure, caption=caption)


def _histogram(path: Path) -> np.ndarray:
    """Reads the number of examples of each class that each client owns, `[N, C]`.

    Raises:
      ValueError: if the summary lacks it.
    """
    try:
        found = np.array(reading.read_json(path)["label_histogram"], np.float64)
    except (ValueError, KeyError, TypeError):
        found = np.zeros(0)
    if found.ndim != 2 or not found.size:
        raise InputError(
            f"{path}: expected a label_histogram, a row for each client; it is of "
            "another version, or damaged."
        )
    return found


def _of_run(run: Finished) -> list[Picture]:
    """Returns the pictures that need a single run's folder."""
    found = [*_of_layers(run), _theory(run.folder)]
    return [picture for picture in (*found, _owners(run.folder)) if picture]


def _owners(folder: Path) -> Picture | None:
    """Returns the clients' labels as a heat map, if the run has ended."""
    summary = folder / folders.SUMMARY
    if not summary.exists():
        return None
    alt = "Heat map: how many training examples of each class each client owns."
    figure = comparison_figures.labels(_histogram(summary))
    return Picture("labels", "Labels of each client", alt, figure)


def pictures(groups: list[Group], channel: Channel) -> list[Picture]:
    """Returns every picture that can be drawn of these runs."""
    first, value = best(groups)
    progress = progress_axis(groups)
    against = f"{progress}, " if progress else ""
    found = [
        Picture(
            "accuracy",
            "Accuracy",
            f"Accuracy against {against}bits sent up, simulated seconds and "
            f"joules. Highest at the end: {first}, {value:.3f}.",
            comparison_figures.accuracy(groups),
            narrow=comparison_figures.accuracy(groups, columns=1),
        ),
        Picture(
            "breakdown",
            "Where time and bits go",
            "Stacked bars: seconds of a run by phase; bits by link, and of side "
            "information.",
            where_time_goes(groups, channel),
            narrow=where_time_goes(groups, channel, columns=1),
        ),
    ]
    if len(groups) > 1:
        alt = "Final accuracy against seconds and joules of each run, with the front."
        figure, narrow = (comparison_figures.pareto(groups, columns=n) for n in (2, 1))
        found.append(
            Picture("pareto", "Accuracy against cost", alt, figure, narrow=narrow)
        )
    if cells := heat_map(groups):
        over = " and ".join(cells.names)
        alt = f"Heat map of the final accuracy over {over}, means over seeds."
        found.append(Picture("heat_map", f"Accuracy over {over}", alt, draw(cells)))
    # Beside other runs, pictures of one run's layers would not say whose they are.
    return found + (_of_run(groups[0].runs[0]) if len(groups) == 1 else [])
