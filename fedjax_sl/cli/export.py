"""`fedjax-sl export RUN FILE.npz`: the weights of a run's global model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from fedjax_sl.cli.line import Line
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.records.run_folder import CONFIG
from fedjax_sl.records.weights_file import write_weights
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.export import last_weights


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the weights of a run's global model, as its last checkpoint has them."""

    folder: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help_behavior_hint="(required)")
    ]
    """Folder of the run."""

    file: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help_behavior_hint="(required)")
    ]
    """Archive of NumPy to write, which ends in .npz."""

    overwrite: bool = False
    """Replace a file that exists."""

    def __post_init__(self):
        """Checks the name of the file."""
        # Else a run that begins from it would take it for the folder of a run.
        if self.file.suffix != ".npz":
            raise InputError(f"{self.file}: expected a name that ends in .npz.")


def export_command(line: Line, console: Console) -> None:
    """Writes the file.

    Raises:
      ValueError: if the run has no global model, or the file exists.
      OSError: if something cannot be read or written.
    """
    options = line.parse(Export)
    if options.file.exists() and not options.overwrite:
        raise InputError(f"{options.file} exists: expected --overwrite to replace it.")
    # Not `read`: a run that was stopped before its first evaluation has weights, too.
    config = from_json(options.folder / CONFIG)
    weights = last_weights(options.folder, prepare(config).method.algorithm)
    write_weights(options.file, weights)
    leaves = jax.tree.leaves(weights)
    console.print(
        f"{options.file}: {len(leaves)} arrays, {sum(x.size for x in leaves):,} values",
        soft_wrap=True,
    )
