"""`fedjax-sl sweep [METHOD]`: a grid of runs, compiled together, point by point."""

import dataclasses
import itertools
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from fedjax_sl.cli.grid import combinations
from fedjax_sl.cli.line import SUMMARIES, Line
from fedjax_sl.cli.options import Branch
from fedjax_sl.cli.presets import methods_of
from fedjax_sl.cli.sweep_shown import Runs, show_all, show_missing, show_part
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.parts import Part, runs_of, spans
from fedjax_sl.runs.signals import Stopped, stop_requests
from fedjax_sl.runs.sweep import jobs_of
from fedjax_sl.runs.sweep_loop import train_all


@dataclass(frozen=True, kw_only=True)
class SweepCommand:
    """Train a grid of runs, and leave a folder with a run for each point."""

    run: Annotated[RunConfig, tyro.conf.arg(name="")]

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """FIELD=VALUE,VALUE,... such as method.bits=4,8; may be given several times."""

    seeds: int = 1
    """Runs of each combination, seeds rising from the one given, >= 1."""

    folder: Path | None = None
    """Where the sweep is kept, or resumed; runs/sweep-METHOD-TIME by default."""

    at_a_time: int | None = None
    """Runs in a call of a program, >= 1; as many as all devices compute at once if not
    given."""

    vmapped: int = 1
    """Runs that a device computes at once, in one batch, >= 1. More pays on a GPU or
    TPU, of which a small run leaves most idle, and not on a CPU."""

    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints of runs that have not ended, >= 0."""

    part: str | None = None
    """K/N, K in 1 to N: train the K-th of N parts of the sweep alone, beside processes
    that train others in the same folder."""

    merge: bool = False
    """Train nothing: check that all runs are finished, and write their table."""

    # Read by the first pass (`presets.Start`); here for help.
    config: Path | None = None
    """A config.json to start from; options given beside it change it."""

    def __post_init__(self):
        """Checks the ranges."""
        if self.seeds < 1:
            raise InputError(f"seeds={self.seeds}: expected at least 1.")
        if self.at_a_time is not None and self.at_a_time < 1:
            raise InputError(f"at_a_time={self.at_a_time}: expected at least 1.")
        if self.vmapped < 1:
            raise InputError(f"vmapped={self.vmapped}: expected at least 1.")
        if not 0 <= self.checkpoint_seconds < float("inf"):
            raise InputError(
                f"checkpoint_seconds={self.checkpoint_seconds}: expected a number >= 0."
            )
        if self.part is not None:
            Part.parsed(self.part)
        for name, given in (("part", self.part is not None), ("merge", self.merge)):
            if given and self.folder is None:
                raise InputError(
                    f"--{name}: expected --folder, too, which parts share."
                )
        if self.merge and self.part is not None:
            raise InputError("--merge: expected no --part, as it is of all parts.")
        if self.run.init_from is not None:
            raise InputError("init_from: expected none in a sweep.")
        if self.run.rounds % self.run.eval_every:
            raise InputError(
                f"eval_every={self.run.eval_every}: expected a divisor of "
                f"rounds={self.run.rounds}, in a sweep."
            )


def _command(config: RunConfig) -> SweepCommand:
    return SweepCommand(run=config)


def _points(
    line: Line, command: SweepCommand, branch: dict[str, Branch[SweepCommand]]
) -> list[RunConfig]:
    """The configuration of every point; values of the grid are parsed as options."""
    (name,), points = branch, []
    for options in combinations(command.run, command.grid):
        point = line._replace(words=(*line.words, *options))
        config = point.parse_one_of(branch, "", name)[1].run
        points += [
            dataclasses.replace(config, seed=config.seed + n)
            for n in range(command.seeds)
        ]
    return points


def _selected(
    command: SweepCommand, folder: SweepFolder
) -> tuple[Runs, list[dict[int, Job]]]:
    """The runs that are to be trained, and their jobs.

    Raises:
      ValueError: if an option is out of range, the folder is in use or holds something
        else, or a sweep to merge lacks runs.
      OSError: if something cannot be read.
    """
    points, part = folder.points, command.part
    mine = range(len(points)) if part is None else runs_of(Part.parsed(part), points)
    folder.check()
    folders.check_free(folder.path, shared=part is not None)
    missing = set(folder.missing())
    lacking = [number for number in mine if number in missing]
    if command.merge and lacking:
        raise InputError(
            f"{folder.path}: {len(points) - len(lacking)} of {len(points)} runs are "
            f"finished; missing: {spans(lacking)}."
        )
    # Whatever is wrong with a point is found before the folder is made.
    jobs = jobs_of({n: points[n] for n in lacking})
    chosen = Runs(
        folder=folder,
        points=points,
        mine=mine,
        # Now: `train_all` drops jobs whose record is complete.
        classes={n: job.test.num_classes for group in jobs for n, job in group.items()},
        at_once=command.at_a_time or command.vmapped * jax.device_count(),
    )
    return chosen, jobs


def _train(
    command: SweepCommand, chosen: Runs, jobs: list[dict[int, Job]], console: Console
) -> None:
    """Trains the selected runs, in the folder that is locked.

    Raises:
      ValueError: as `train_all`.
      OSError: if something cannot be written.
      Stopped: if a signal requested it.
    """
    try:
        with stop_requests(console.print) as stop_signal:
            found = train_all(
                jobs,
                chosen.folder,
                at_a_time=chosen.at_once,
                vmapped=command.vmapped,
                checkpoint_seconds=command.checkpoint_seconds,
                stop_signal=stop_signal,
            )
            # Within the block: `train_all` is a generator, and trains while it is
            # shown.
            show_missing(chosen, found, console)
    except Stopped:
        part = "" if command.part is None else f" --part {command.part}"
        console.print(
            f"stopped; resume it with --folder {chosen.folder.path}{part}",
            soft_wrap=True,
        )
        raise


def sweep_command(line: Line, console: Console) -> None:
    """Trains the runs that the folder lacks, and prints the table of all.

    Raises:
      ValueError: if an option is out of range or cannot be had.
      OSError: if something cannot be read or written.
      Stopped: if a signal requested it.
    """
    branches, default = methods_of(line.start, _command)
    about = SUMMARIES["sweep"]
    name, command = line.parse_one_of(branches, about, default)
    line.start.check_method(name, command.run)
    points = _points(line, command, {name: branches[name]})
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = SweepFolder(command.folder or Path("runs") / f"sweep-{name}-{now}", points)
    chosen, jobs = _selected(command, folder)
    every = [job.method.warnings for group in jobs for job in group.values()]
    for sentence in dict.fromkeys(itertools.chain(*every)):
        console.print(f"warning: {sentence}", soft_wrap=True)
    with folder.open(shared=command.part is not None):
        _train(command, chosen, jobs, console)
        # Other parts still have records in the folders that writing it removes.
        left_out = folder.write_table() if command.part is None else ""
    if command.part is None:
        show_all(folder, left_out, console)
    else:
        show_part(folder, command.part, console)
