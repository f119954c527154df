"""`fedjax-sl codec RUN`: a client's update in every code, against its entropy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjax_sl.cli.compare import show_whole
from fedjax_sl.cli.line import Line
from fedjax_sl.errors import InputError
from fedjax_sl.method_spec import SentLayers
from fedjax_sl.methods import methods, spec_of
from fedjax_sl.records.finished_run import Finished, read
from fedjax_sl.reports.coder_table import CoderLengths, coder_lengths
from fedjax_sl.reports.panels import last_checkpoint


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Code what a client of a finished run would send next, by every coder."""

    folder: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)"),
    ]
    """Folder of a run."""


def _sent(run: Finished) -> SentLayers:
    """Computes what a client would send next.

    Raises:
      ValueError: if that is not coded, or there is no checkpoint to compute it from.
    """
    compute = spec_of(run.config).sent_layers
    if compute is None:
        coded = [name for name, spec in methods().items() if spec.sent_layers]
        raise InputError(
            f"{run.folder}: a run of {run.config.algorithm} codes no layers: expected "
            f"one of {' or '.join(coded)}."
        )
    seen = last_checkpoint(run)
    if seen is None or not seen.arrays:
        raise InputError(f"{run.folder} has no checkpoint: expected that of a run.")
    sent = compute(seen)
    if sent is None:
        raise InputError(
            f"{run.folder}: none of its next clients quantises its update by `bits`: "
            "they send float32 values, or have a compressor of their own."
        )
    return sent


def _table(found: CoderLengths, title: str) -> Table:
    """A line for each layer, and one for all of them, in bits per element."""
    shown = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("layer", no_wrap=True)
    for column in ("elements", "entropy", *found.message):
        shown.add_column(column, justify="right", no_wrap=True)
    columns = (found.entropy, *found.message.values())
    for place, name in enumerate(found.layers):
        size = found.size[place]
        cells = [f"{column[place] / size:.3f}" for column in columns]
        shown.add_row(name, str(size), *cells)
    shown.add_section()
    size = found.size.sum()
    cells = [f"{column.sum() / size:.3f}" for column in columns]
    shown.add_row("all", str(size), *cells)
    return shown


def codec_command(line: Line, console: Console) -> None:
    """Prints the table.

    Raises:
      ValueError: if the folder makes no sense, or nothing of the run is coded.
      OSError: if something cannot be read.
    """
    run = read(line.parse(Codec).folder)
    sent = _sent(run)
    title = (
        f"bits per element of client {sent.client}'s update after round {sent.rounds}, "
        f"b = {sent.bits}"
    )
    show_whole(_table(coder_lengths(sent), title), console)
    console.print(
        f"Messages as encoders emit them, norms and headers included; the run counts "
        f"Elias {sent.code}. No code of single levels is shorter than their entropy.",
        soft_wrap=True,
    )
