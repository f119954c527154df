"""The page of a report: pictures, results and settings in one file."""

import base64
import dataclasses
import html
import json
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, NamedTuple

import fedjax_sl
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.extras import require
from fedjax_sl.reports.groups import Group
from fedjax_sl.reports.labels import accuracy_of, titles
from fedjax_sl.reports.late import late_note
from fedjax_sl.reports.names import best, names_of
from fedjax_sl.reports.results_table import UNCHARGED, results


if TYPE_CHECKING:
    from fedjax_sl.reports.panels import Picture


NARROW = "44rem"
"""Screens up to this width show pictures of one column."""

# In `report.html`; no file without it is replaced by a page.
MARK = '<meta name="generator" content="fedjax-sl">'


class Drawn(NamedTuple):
    """A picture with its file, and that of its version for narrow screens."""

    picture: "Picture"
    svg: bytes
    narrow: bytes | None


def drawn(groups: list[Group], channel: Channel) -> list[Drawn]:
    """Draws all pictures of a page.

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


def page(
    groups: list[Group], drawings: list[Drawn], channel: Channel, *, charge_side: bool
) -> str:
    """Returns the page of these runs, which needs no other file.

    Args:
      groups: runs that differ in their seeds alone.
      drawings: as from `drawn`.
      channel: over which their costs are.
      charge_side: whether these count side information.
    """
    runs = [run for group in groups for run in group.runs]
    configs = [run.config for run in runs]
    first, value = best(groups)
    template = resources.files("fedjax_sl.reports").joinpath("report.html")
    lead = (
        f"{len(runs)} run{'s' * (len(runs) > 1)} of "
        f"{_span([run.lines[-1]['round'] for run in runs])} rounds, "
        f"{_span([config.cohort_size for config in configs])} of "
        f"{_span([config.data.num_clients for config in configs])} clients a round. "
        f"Highest mean {accuracy_of(configs)} at the end: {value:.4f} ({first})."
    )
    return Template(template.read_text()).substitute(
        # All are on one data set: `select` refuses others.
        title=html.escape(f"{titles(configs)} on {configs[0].data.name}"),
        lead=html.escape(lead),
        body=results(groups)
        + f"<p>{html.escape(_charged(groups, charge_side))}</p>\n"
        + f"<p>{html.escape(late_note(runs, channel))}</p>\n"
        + "".join(map(_section, drawings))
        + _details(groups, channel),
        version=fedjax_sl.__version__,
    )
