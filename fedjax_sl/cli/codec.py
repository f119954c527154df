"""`fedjax-sl codec RUN`: a message in every code, against its entropy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjax_sl.checks import check_choice
from fedjax_sl.cli.compare import show_whole
from fedjax_sl.cli.line import Line
from fedjax_sl.errors import InputError
from fedjax_sl.method_spec import SentLayers
from fedjax_sl.methods import methods, spec_of
from fedjax_sl.records.finished_run import Finished, read
from fedjax_sl.reports.coder_table import CoderLengths, coder_lengths
from fedjax_sl.reports.last_checkpoint import last_checkpoint


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Code what would be sent next on a link of a finished run, by every coder."""

    folder: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)"),
    ]
    """Folder of a run."""

    link: str = "updates"
    """Whose compressor's message it is: of the updates or the models; in FedSL also of
    the activations, cut_gradients, features or feature_gradients."""


def _sent(run: Finished, link: str) -> SentLayers:
    """Computes what would be sent next on a link.

    Raises:
      ValueError: if that is not coded, or there is no checkpoint to compute it from.
    """
    spec = spec_of(run.config)
    compute = spec.sent_layers
    if compute is None:
        coded = [name for name, spec in methods().items() if spec.sent_layers]
        raise InputError(
            f"{run.folder}: a run of {run.config.algorithm} codes no layers: expected "
            f"one of {' or '.join(coded)}."
        )
    # Each method has links of its own, so that no annotation can list them.
    check_choice("link", link, Literal[tuple(spec.coded_links)])
    seen = last_checkpoint(run)
    if seen is None or not seen.arrays:
        raise InputError(f"{run.folder} has no checkpoint: expected that of a run.")
    sent = compute(seen, link)
    if sent is None:
        raise InputError(
            f"{run.folder}: its next clients have nothing coded on the link {link!r}: "
            "values are float32, or of as many bits each; expected a compressor "
            f"(method.{link}.kind)."
        )
    return sent


def _columns(found: CoderLengths) -> dict[str, np.ndarray]:
    """The columns of bits, `[U]` each."""
    entropy = {} if found.entropy is None else {"entropy": found.entropy}
    return {"sent": found.sent, **entropy, **found.message}


def _cells(size: int, bits: Sequence[int]) -> Iterator[str]:
    """The number of elements, and bits of one; of none where nothing may be sent."""
    yield str(size)
    for number in bits:
        yield f"{number / size:.3f}" if size else ""


def _table(found: CoderLengths, title: str) -> Table:
    """A line for each layer, and one for all of them, in bits per element."""
    shown = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        # The box leaves a space between columns: nine of them fit into 80.
        padding=0,
    )
    columns = _columns(found)
    shown.add_column("layer", no_wrap=True)
    for column in ("elements", *columns):
        shown.add_column(column, justify="right", no_wrap=True)
    every = np.stack([*columns.values()])
    for name, size, bits in zip(found.layers, found.size, every.T, strict=True):
        shown.add_row(name, *_cells(size, bits))
    shown.add_section()
    # Sums of bits over sums of elements: a mean of ratios would weigh a bias like a
    # kernel.
    shown.add_row("all", *_cells(found.size.sum(), every.sum(axis=1)))
    return shown


def _note(found: CoderLengths) -> str:
    """What the columns are, and why some of them are not there."""
    whole = "Messages as encoders emit them, scales and headers included"
    if found.entropy is None:
        return (
            f"{whole}. What this compressor sends are no integer levels: there is no "
            "entropy to compare with, and no other code."
        )
    if not found.message:
        return f"{whole}. No other code takes the levels of this compressor."
    return f"{whole}. No code of single levels is shorter than their entropy."


def codec_command(line: Line, console: Console) -> None:
    """Prints the table.

    Raises:
      ValueError: if the folder makes no sense, or nothing of the run is coded.
      OSError: if something cannot be read.
    """
    options = line.parse(Codec)
    sent = _sent(read(options.folder), options.link)
    found = coder_lengths(sent)
    title = f"bits per element of {sent.what} after round {sent.rounds}, {sent.said}"
    show_whole(_table(found, title), console)
    console.print(_note(found), soft_wrap=True)
