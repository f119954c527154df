"""`fedjax-sl report FOLDER…`: one page about finished runs that needs nothing else."""

import base64
import dataclasses
import html
import json
import warnings
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.experiment import (
    figures,
    layer_figures,
    messages,
    theory,
    updates,
)
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment.checkpoint import Arrays, Checkpoints
from fedjax_sl.experiment.compare import Group, at_target, grouped, interval
from fedjax_sl.experiment.config import to_json
from fedjax_sl.experiment.finished import Finished
from fedjax_sl.experiment.selection import UNCHARGED, Selection, select


NARROW = "44rem"
"""Screens up to this width show pictures of one column."""

MARK = '<meta name="generator" content="fedjax-sl">'


@dataclass(frozen=True, kw_only=True)
class Report(Selection):
    """Write a page about finished runs, and its pictures."""

    output: Path | None = None
    """The page; report.html in the folder, or here if there are several."""


class Picture(NamedTuple):
    """A figure with its heading, what it shows in words, and what to know of it.

    A figure of several columns has another one of a single column for narrow screens.
    """

    name: str
    heading: str
    alt: str
    figure: Figure
    caption: str = ""
    narrow: Figure | None = None


def _best(groups: list[Group]) -> tuple[str, float]:
    means = [interval([c.accuracy[-1] for c in g.courses])[0] for g in groups]
    return figures.name_of(groups[int(np.argmax(means))]), max(means)


def _last_arrays(folder: Path) -> Arrays:
    """Those of the run's last checkpoint; none if it has none."""
    path = folder / folders.CHECKPOINTS
    if not path.is_dir():
        return {}
    checkpoints = Checkpoints(path)
    try:
        return checkpoints.arrays()
    finally:
        checkpoints.close()


def _of_layers(run: Finished) -> list[Picture]:
    """What the run's last checkpoint tells of a client's layers."""
    found, arrays = [], _last_arrays(run.folder)
    if figure := figures.kept_of_layers(arrays):
        alt = "Bars: share of each client kernel that is kept at the end, by layer."
        found.append(Picture("kept", "What is kept of each layer", alt, figure))
    if sent := updates.update_bits(arrays, run.config):
        total, widths = 1e-3 * sent.bits.sum(axis=1).mean(), np.unique(sent.widths)
        alt = (
            "Bars: bits of the numbers in a client's update, by layer; all together "
            f"{total:.4g} kbit, the mean over clients."
        )
        caption = (
            f"Entries kept, of {' or '.join(map(str, widths))} bits each, as sent with "
            f"the masks of the last checkpoint (round {arrays['round']}); norms and "
            "masks come on top. Lines span the clients."
        )
        figure = layer_figures.update_bits(sent)
        found.append(Picture("update", "Bits of an update", alt, figure, caption))
    return found


def _theory(folder: Path) -> Picture | None:
    """The bound beside what was measured, if `bound` was asked about the run."""
    found = theory.read(folder)
    if found is None:
        return None
    last, most = found.running_mean[-1], found.bound[-1]
    alt = (
        "Mean squared gradient against rounds on a logarithmic axis: measured, "
        f"{last:.3g} over {found.points[-1]} rounds, and the bound, {most:.3g}, whose "
        "constants are estimated."
    )
    caption = (
        "The bound is FedSL's theorem for these settings, without momentum (the run "
        f"has {found.momentum:g}). Its constants are estimates from the "
        f"{len(found.points)} models at which gradients were taken: no proof that the "
        "bound holds."
    )
    figure = figures.theory(found)
    return Picture("bound", "Theory and measurement", alt, figure, caption)


def _histogram(path: Path) -> np.ndarray:
    """`[N, C]` examples of each class that each client owns.

    Raises:
      ValueError: if the summary does not tell.
    """
    try:
        found = np.array(json.loads(path.read_text())["label_histogram"], np.float64)
    except (ValueError, KeyError, TypeError):
        found = np.zeros(0)
    if found.ndim != 2 or not found.size:
        raise ValueError(
            f"{path}: expected a label_histogram, a row for each client; it is of "
            "another version, or damaged."
        )
    return found


def _code_lengths(run: Finished) -> Picture | None:
    """Code length against entropy of each layer, if the run has a checkpoint."""
    try:
        sent = messages.sent_next(run.folder, run.config)
    except (ValueError, OSError) as error:
        warnings.warn(f"no picture of messages: {error}", stacklevel=2)
        return None
    if sent is None:
        return None
    found = messages.code_lengths(sent)
    sizes = [levels.size for levels in sent.levels.values()]
    whole = np.average(found.message, weights=sizes)
    least = np.average(found.entropy, weights=sizes)
    alt = (
        "Bars: bits per element of each layer's message, with the entropy of its "
        f"indices; {whole:.3g} and {least:.3g} over all elements."
    )
    caption = (
        f"The update of client {sent.client} as it would be sent after round "
        f"{sent.rounds}, were every layer sent: computed for this page from the last "
        f"checkpoint and the run's data. b = {sent.bits}, Elias {sent.code}; the "
        "entropy is that of single indices with their signs."
    )
    figure = layer_figures.code_lengths(found)
    return Picture("code_length", "Code length and entropy", alt, figure, caption)


def pictures(groups: list[Group], channel: Channel) -> list[Picture]:
    """Every picture that these runs allow."""
    best, value = _best(groups)
    found = [
        Picture(
            "accuracy",
            "Accuracy",
            "Test accuracy against rounds, bits sent up, simulated seconds and joules. "
            f"Highest at the end: {best}, {value:.3f}.",
            figures.accuracy(groups),
            narrow=figures.accuracy(groups, columns=1),
        ),
        Picture(
            "spent",
            "Where time and bits go",
            "Stacked bars: seconds of a run by phase; bits by link, and of side "
            "information.",
            figures.where_time_goes(groups, channel),
            narrow=figures.where_time_goes(groups, channel, columns=1),
        ),
    ]
    names = list(groups[0].label)
    if len(groups) > 1:
        alt = "Final accuracy against seconds and joules of each run, with the front."
        figure, narrow = (figures.pareto(groups, columns=n) for n in (2, 1))
        found.append(Picture("pareto", "What pays", alt, figure, narrow=narrow))
    if len(names) >= 2:
        pair = (names[0], names[1])
        over = " and ".join(name.split(".")[-1] for name in pair)
        alt = f"Heat map of the mean final accuracy over {over}."
        figure = figures.heat_map(groups, pair)
        found.append(Picture("heat_map", f"Accuracy over {over}", alt, figure))
    if len(groups) == 1:
        found += _of_layers(groups[0].runs[0])
    if len(groups) == 1 and (picture := _code_lengths(groups[0].runs[0])):
        found.append(picture)
    if len(groups) == 1 and (picture := _theory(groups[0].runs[0].folder)):
        found.append(picture)
    summary = groups[0].runs[0].folder / folders.SUMMARY
    if len(groups) == 1 and summary.exists():
        histogram = _histogram(summary)
        alt = "Heat map: how many training examples of each class each client owns."
        figure = figures.labels(histogram)
        found.append(Picture("labels", "Who owns which labels", alt, figure))
    return found


def _inside(svg: bytes) -> str:
    """A picture as an address that holds all of it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _section(picture: Picture, svg: bytes) -> str:
    shown = f'<img alt="{html.escape(picture.alt)}" src="{_inside(svg)}">'
    if picture.narrow:
        other = _inside(figures.svg(picture.narrow))
        narrow = f'<source media="(max-width: {NARROW})" srcset="{other}">'
        shown = f"<picture>{narrow}{shown}</picture>"
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>"
    return (
        f"<h2>{html.escape(picture.heading)}</h2>\n<figure>{shown}"
        f"{caption if picture.caption else ''}</figure>\n"
    )


def _results(groups: list[Group], target: float) -> str:
    """The table of what each group reaches and spends."""
    heads = ["runs", "final accuracy", "Mbit up", "seconds", "joules"]
    names = [name.split(".")[-1] for name in groups[0].label] or ["run"]
    rows = []
    for group in groups:
        mean, half = interval([c.accuracy[-1] for c in group.courses])
        spread = "" if np.isnan(half) else f" ± {half:.4f}"
        reached = at_target(group, target)
        cost = [
            f"{np.mean(reached[name]) * factor:.4g}" if reached[name] else "not reached"
            for name, (_, factor) in figures.AXES.items()
            if name != "rounds"
        ]
        label = [str(v) for v in group.label.values()] or [group.runs[0].folder.name]
        rows.append([*label, str(len(group.runs)), f"{mean:.4f}{spread}", *cost])
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in (*names, *heads))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return (
        '<h2>Results</h2>\n<div class="wide"><table>'
        f"<tr>{head}</tr>\n{body}</table></div>\n"
        "<p>Bits, seconds and joules are what had been spent when an accuracy of "
        f"{target:.4f} was first reached, the lowest at the end of a run.</p>\n"
    )


def _charged(groups: list[Group], charged: bool) -> str:
    """Whether side information counts, and how much of what went up it is."""
    if not charged:
        return UNCHARGED
    records = [run.record for group in groups for run in group.runs]
    side = sum(int(one.side.uplink.sum()) for one in records)
    total = sum(int(one.traffic.uplink.sum()) for one in records)
    return (
        "Side information (norms, headers, masks, flags, norm statistics) is counted: "
        f"{100 * side / max(total, 1):.2g} % of the bits sent up."
    )


def _details(groups: list[Group], channel: Channel) -> str:
    first = html.escape(to_json(groups[0].runs[0].config))
    over = html.escape(json.dumps(dataclasses.asdict(channel), indent=2))
    return (
        f"<h2>Settings</h2>\n<details><summary>Configuration of the first run</summary>"
        f"<pre>{first}</pre></details>\n<details><summary>Channel</summary>"
        f"<pre>{over}</pre></details>\n"
    )


def _page(groups: list[Group], sections: list[str], asked: Report) -> str:
    config = groups[0].runs[0].config
    runs = sum(len(group.runs) for group in groups)
    target = min(float(c.accuracy[-1]) for g in groups for c in g.courses)
    best, value = _best(groups)
    template = resources.files("fedjax_sl.experiment").joinpath("report.html")
    lead = (
        f"{runs} run{'s' * (runs > 1)} of {config.rounds} rounds, "
        f"{config.cohort_size} of {config.data.num_clients} clients a round. Highest "
        f"mean test accuracy at the end: {value:.4f} ({best})."
    )
    return Template(template.read_text()).substitute(
        title=html.escape(f"{config.title} on {config.data.name}"),
        lead=html.escape(lead),
        body=_results(groups, target)
        + f"<p>{html.escape(_charged(groups, asked.charge_side))}</p>\n"
        + "".join(sections)
        + _details(groups, asked.channel),
        version=metadata.version("fedjax-sl"),
    )


def report_command(arguments: list[str], console: Console) -> None:
    """Writes the page.

    Raises:
      ValueError: if a folder or an option makes no sense.
      OSError: if something cannot be read or written.
    """
    asked, runs = select(Report, arguments, command="report")
    alone = asked.folders[0] if len(asked.folders) == 1 else Path()
    output = asked.output or alone / "report.html"
    # Only what is a file is read: a device may never end.
    if output.exists() and not (
        output.is_file() and MARK in output.read_text(errors="replace")
    ):
        raise ValueError(f"{output} is no report: expected another --output.")
    groups = grouped(runs, asked.channel)
    drawn = [(one, figures.svg(one.figure)) for one in pictures(groups, asked.channel)]
    sections = [_section(picture, svg) for picture, svg in drawn]
    folders.write_text(output, _page(groups, sections, asked))
    beside = output.with_suffix("")
    beside.mkdir(exist_ok=True)
    for picture, svg in drawn:
        (beside / f"{picture.name}.svg").write_bytes(svg)
    console.print(f"{output} ({output.stat().st_size / 1e3:.0f} kB), {beside}/*.svg")
