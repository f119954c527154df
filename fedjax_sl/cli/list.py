"""`fedjax-sl list`: what can be named on a command line, read off the registries."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rich.console import Console

from fedjax_sl.cli.line import Line
from fedjax_sl.compressors import compressors
from fedjax_sl.data.partitions import partitions
from fedjax_sl.data.prepared_sets import prepared_sets, usual_folder
from fedjax_sl.data.sources import sources
from fedjax_sl.extras import lacking
from fedjax_sl.methods import methods, presets
from fedjax_sl.models.registry import NETWORKS


COLUMN = 20
"""Where texts begin; a name that is longer is followed by its text."""

Rows = Iterable[tuple[str, str]]
"""Names, and what each is."""


@dataclass(frozen=True, kw_only=True)
class List:
    """List data at hand, presets, methods, networks, partitions and compressors."""

    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its sets; $TFDS_DATA_DIR or ~/tensorflow_datasets
    if not given."""


def _said(thing: Callable) -> str:
    """The first line of what a function or class says of itself."""
    # A partial has the docstring of `partial`.
    while isinstance(thing, partial):
        thing = thing.func
    return (thing.__doc__ or "").partition("\n")[0]


def _data(folder: Path) -> Iterator[tuple[str, str]]:
    yield "digits", "1,797 grey images of ten classes, embedded: nothing to download"
    sentence = lacking("tensorflow_datasets", "is prepared; reading it needs")
    for name in prepared_sets(folder):
        # Listed though nothing can read them yet: the line says what to install.
        yield name, sentence or f"is prepared in {folder}"
    for scheme, source in sources().items():
        yield f"{scheme}:PATH", _said(source)


def _presets() -> Iterator[tuple[str, str]]:
    for name, (_, preset) in presets().items():
        run = preset.run
        yield name, f"{preset.help}; {run.data.name}, {run.rounds} rounds"


def _methods() -> Iterator[tuple[str, str]]:
    for name, spec in methods().items():
        named = f" Presets: {', '.join(spec.presets)}" if spec.presets else ""
        yield name, _said(spec.config) + named


def _choices(hint: Any) -> Iterator[str]:
    """The texts of a `Literal`, or of a union of some."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _choices(part)


def _networks() -> Iterator[tuple[str, str]]:
    for name, network in NETWORKS.items():
        yield name, _said(network.build)
    for name, spec in methods().items():
        # By type: the annotation has all names, and a preset only the one it uses.
        kinds = {type(getattr(p.run, "model", None)) for p in spec.presets.values()}
        hints = [get_type_hints(kind).get("name") for kind in kinds]
        if taken := [choice for hint in hints for choice in _choices(hint)]:
            yield f"of {name}", ", ".join(taken)


def _sections(options: List) -> Iterator[tuple[str, Rows]]:
    """Each heading, with the option that takes the names below it."""
    yield "data (--data.name)", _data(options.data_dir or usual_folder())
    yield "presets (run NAME, sweep NAME)", _presets()
    yield "methods", _methods()
    yield "networks (--model.name)", _networks()
    kinds = partitions().items()
    yield "partitions (--data.partition)", ((n, _said(kind)) for n, kind in kinds)
    kinds = compressors().items()
    yield "compressors (--method.updates.kind)", ((n, _said(kind)) for n, kind in kinds)


def list_command(line: Line, console: Console) -> None:
    """Prints a line for each name.

    Raises:
      ValueError: if a registered entry of another package cannot be loaded.
    """
    options = line.parse(List)
    # A line each: whole for a program that reads them, cut where a terminal ends.
    cut = {"no_wrap": True, "overflow": "ellipsis"}
    style: dict[str, Any] = cut if console.is_terminal else {"soft_wrap": True}
    for heading, rows in _sections(options):
        console.print(heading, **style)
        for name, text in rows:
            console.print(f"  {name:<{COLUMN - 3}} {text}", **style)
