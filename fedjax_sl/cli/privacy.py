"""`fedjax-sl privacy RUN…`: what differential privacy clients had, without training."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.privacy import epsilon, participation
from fedjax_sl.cli.compare import show_whole
from fedjax_sl.cli.line import Line
from fedjax_sl.config_base import UpdateConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records.finished_run import Finished, find, read


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Count the privacy that the updates of finished runs had; nothing is trained."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(required)"),
    ]
    """Folders of runs and of sweeps."""

    delta: float = 1e-5
    """delta, in (0, 1); well below one over the number of clients."""

    def __post_init__(self):
        """Checks the range, and that there is something to read."""
        if not self.folders:
            raise InputError("no folder: expected that of a run or of a sweep.")
        if not 0 < self.delta < 1:
            raise InputError(f"delta={self.delta}: expected a number in (0, 1).")


def _figure(value: float) -> str:
    """Three digits, or all before the point."""
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _row(run: Finished, delta: float) -> list[str]:
    # From the record: who was absent or late has sent nothing, though it was drawn.
    method, counts = run.config.method, participation(run.record)
    # No other configuration promises that updates are clipped before noise is added.
    if not isinstance(method, UpdateConfig):
        raise InputError(
            f"{run.folder}: {run.config.algorithm} does not tell what noise its "
            "updates have."
        )
    clients = run.config.data.num_clients
    # None is no noise: epsilon is infinite, which the table should say.
    noise = method.noise_multiplier or 0.0
    found = epsilon(
        noise,
        counts,
        cohort_size=run.config.cohort_size,
        num_clients=clients,
        delta=delta,
    )
    return [
        run.folder.name,
        f"{noise:g}",
        f"{run.config.cohort_size}/{clients}",
        str(counts.aggregates),
        str(counts.most),
        *map(_figure, found),
    ]


def privacy_command(line: Line, console: Console) -> None:
    """Prints the table.

    Raises:
      ValueError: if a folder or an option makes no sense, or the library is missing.
      OSError: if something cannot be read.
    """
    options = line.parse(Privacy)
    runs = [read(folder) for folder in find(options.folders)]
    shown = Table(
        title="epsilon of client-level differential privacy at delta "
        f"{options.delta:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    columns = ("run", "z", "K/N", "aggregates", "of one client")
    for column in (*columns, "models", "as Poisson", "messages"):
        shown.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        shown.add_row(*_row(run, options.delta))
    show_whole(shown, console)
    console.print(
        "models: for whoever sees every model but not who participated; as Poisson: "
        "the same, had each client participated by chance; messages: for "
        "whoever sees every update and whose it is.",
        soft_wrap=True,
    )
    for said in dict.fromkeys(run.config.not_private for run in runs):
        if said:
            console.print(said, soft_wrap=True)
    for run in runs:
        # That run's clients may be these, and its updates without noise.
        if run.config.init_from is not None:
            console.print(
                f"{run.folder.name}: without the rounds of {run.config.init_from}, "
                "from whose models it began.",
                soft_wrap=True,
            )
