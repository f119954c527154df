"""`fedjax-sl report FOLDER…`: one page about finished runs that needs nothing else."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fedjax_sl import reading
from fedjax_sl.cli.line import Line
from fedjax_sl.cli.run_selection import Selection, select
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.reports.groups import grouped
from fedjax_sl.reports.page import MARK, drawn, page


@dataclass(frozen=True, kw_only=True)
class Report(Selection):
    """Write a page about finished runs, and its pictures."""

    output: Path | None = None
    """The page; report.html in the folder, or here if there are several."""


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
    groups, channel = grouped(runs, options.channel), options.channel
    # All pictures first: one that fails leaves an earlier page as it is.
    drawings = drawn(groups, channel)
    text = page(groups, drawings, channel, charge_side=options.charge_side)
    folders.write_text(output, text)
    beside = output.with_suffix("")
    beside.mkdir(exist_ok=True)
    for picture, svg, _ in drawings:
        (beside / f"{picture.name}.svg").write_bytes(svg)
    console.print(
        f"{output} ({output.stat().st_size / 1e3:.0f} kB), {beside}/*.svg",
        soft_wrap=True,
    )
