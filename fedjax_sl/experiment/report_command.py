"""`fedjax-sl report FOLDER…`: one page about finished runs that needs nothing else."""

import base64
import dataclasses
import html
import json
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template

import numpy as np
from rich.console import Console

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.experiment import figures
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment.compare import Group, at_target, grouped, interval
from fedjax_sl.experiment.config import to_json
from fedjax_sl.experiment.pictures import Picture, best, pictures
from fedjax_sl.experiment.selection import UNCHARGED, Selection, select


NARROW = "44rem"
"""Screens up to this width show pictures of one column."""

MARK = '<meta name="generator" content="fedjax-sl">'


@dataclass(frozen=True, kw_only=True)
class Report(Selection):
    """Write a page about finished runs, and its pictures."""

    output: Path | None = None
    """The page; report.html in the folder, or here if there are several."""


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
    first, value = best(groups)
    template = resources.files("fedjax_sl.experiment").joinpath("report.html")
    lead = (
        f"{runs} run{'s' * (runs > 1)} of {config.rounds} rounds, "
        f"{config.cohort_size} of {config.data.num_clients} clients a round. Highest "
        f"mean test accuracy at the end: {value:.4f} ({first})."
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
