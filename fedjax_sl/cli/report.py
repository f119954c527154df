"""`fedjax-sl report FOLDER…`: one page about finished runs that needs nothing else."""

import base64
import dataclasses
import html
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

import fedjax_sl
from fedjax_sl import reading
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.cli.line import Line
from fedjax_sl.cli.run_selection import UNCHARGED, Selection, select
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.errors import InputError
from fedjax_sl.extras import require
from fedjax_sl.records import run_folder as folders
from fedjax_sl.reports.groups import Group, grouped
from fedjax_sl.reports.labels import titles
from fedjax_sl.reports.names import best, names_of
from fedjax_sl.reports.results_table import results


if TYPE_CHECKING:
    from fedjax_sl.reports.panels import Picture


NARROW = "44rem"
"""Screens up to this width show pictures of one column."""

# By it a page of ours is known; no other file is replaced by one.
MARK = '<meta name="generator" content="fedjax-sl">'


@dataclass(frozen=True, kw_only=True)
class Report(Selection):
    """Write a page about finished runs, and its pictures."""

    output: Path | None = None
    """The page; report.html in the folder, or here if there are several."""


class Drawn(NamedTuple):
    """A picture with its file, and that of its version for narrow screens."""

    picture: "Picture"
    svg: bytes
    narrow: bytes | None


def _drawn(groups: list[Group], channel: Channel) -> list[Drawn]:
    """Draws all pictures.

    Raises:
      ValueError: if Matplotlib is not installed.
    """
    require("matplotlib", "reports need")
    # Late: it takes a second, and is an extra.
    from fedjax_sl.reports.comparison_figures import svg
    from fedjax_sl.reports.panels import pictures

    return [
        Drawn(found, svg(found.figure), found.narrow and svg(found.narrow))
        for found in pictures(groups, channel)
    ]


def _inside(svg: bytes) -> str:
    """A picture as an address that holds all of it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _section(drawn: Drawn) -> str:
    picture = drawn.picture
    shown = f'<img alt="{html.escape(picture.alt)}" src="{_inside(drawn.svg)}">'
    if drawn.narrow:
        other = _inside(drawn.narrow)
        narrow = f'<source media="(max-width: {NARROW})" srcset="{other}">'
        shown = f"<picture>{narrow}{shown}</picture>"
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>"
    return (
        f"<h2>{html.escape(picture.heading)}</h2>\n<figure>{shown}"
        f"{caption if picture.caption else ''}</figure>\n"
    )


def _charged(groups: list[Group], charged: bool) -> str:
    """Whether side information counts, and how much of what went up it is."""
    if not charged:
        return UNCHARGED
    records = [run.record for group in groups for run in group.runs]
    # As Python's integers: sums over many runs have no limit.
    side = sum(int(record.side.uplink.sum()) for record in records)
    total = sum(int(record.traffic.uplink.sum()) for record in records)
    return (
        "Side information (norms, headers, masks, flags, norm statistics) is counted: "
        f"{100 * side / max(total, 1):.2g} % of the bits sent up."
    )


def _details(groups: list[Group], channel: Channel) -> str:
    each = "".join(
        f"<details><summary>Configuration of {html.escape(name)}</summary>"
        # Of the first run: the others differ in the seed.
        f"<pre>{html.escape(to_json(group.runs[0].config))}</pre></details>\n"
        for name, group in zip(names_of(groups), groups, strict=True)
    )
    over = html.escape(json.dumps(dataclasses.asdict(channel), indent=2))
    return (
        f"<h2>Settings</h2>\n{each}<details><summary>Channel</summary>"
        f"<pre>{over}</pre></details>\n"
    )


def _span(values: list[int]) -> str:
    """Such as "3 to 8"."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _page(groups: list[Group], sections: list[str], options: Report) -> str:
    runs = [run for group in groups for run in group.runs]
    configs = [run.config for run in runs]
    first, value = best(groups)
    template = resources.files("fedjax_sl.reports").joinpath("report.html")
    lead = (
        f"{len(runs)} run{'s' * (len(runs) > 1)} of "
        f"{_span([run.lines[-1]['round'] for run in runs])} rounds, "
        f"{_span([config.cohort_size for config in configs])} of "
        f"{_span([config.data.num_clients for config in configs])} clients a round. "
        f"Highest mean test accuracy at the end: {value:.4f} ({first})."
    )
    return Template(template.read_text()).substitute(
        # All are on one data set: `select` refuses others.
        title=html.escape(f"{titles(configs)} on {configs[0].data.name}"),
        lead=html.escape(lead),
        body=results(groups)
        + f"<p>{html.escape(_charged(groups, options.charge_side))}</p>\n"
        + "".join(sections)
        + _details(groups, options.channel),
        version=fedjax_sl.__version__,
    )


def _is_report(path: Path) -> bool:
    try:
        # Up to a size: whatever lies there is read, and may be no page.
        return MARK.encode() in reading.read_bytes(path, most=reading.DESCRIPTION)
    except (ValueError, OSError):
        # What cannot be read is not ours to replace.
        return False


def report_command(line: Line, console: Console) -> None:
    """Writes the page.

    Raises:
      ValueError: if a folder or an option makes no sense.
      OSError: if something cannot be read or written.
    """
    options, runs = select(line, Report, console)
    alone = options.folders[0] if len(options.folders) == 1 else Path()
    output = options.output or alone / "report.html"
    if output.exists() and not _is_report(output):
        raise InputError(f"{output} is no report: expected another --output.")
    # Pictures go into a folder of that name, without its suffix.
    if not output.suffix:
        raise InputError(f"--output {output}: expected a name such as {output}.html.")
    groups = grouped(runs, options.channel)
    # All pictures first: one that fails leaves an earlier page as it is.
    drawn = _drawn(groups, options.channel)
    folders.write_text(output, _page(groups, [*map(_section, drawn)], options))
    beside = output.with_suffix("")
    beside.mkdir(exist_ok=True)
    for picture, svg, _ in drawn:
        (beside / f"{picture.name}.svg").write_bytes(svg)
    console.print(
        f"{output} ({output.stat().st_size / 1e3:.0f} kB), {beside}/*.svg",
        soft_wrap=True,
    )
