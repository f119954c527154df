"""`fedjax-sl sweep [METHOD]`: a grid of runs, compiled together, point by point."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import tyro
from rich.console import Console

from fedjax_sl.cli.compare import show
from fedjax_sl.cli.grid import combinations
from fedjax_sl.cli.line import SUMMARIES, Line
from fedjax_sl.cli.options import Branch
from fedjax_sl.cli.presets import methods_of
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.finished_run import find, read
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.reports.groups import grouped, usual_target
from fedjax_sl.reports.labels import titles
from fedjax_sl.runs.progress import bar, seconds_left
from fedjax_sl.runs.signals import Stopped, stop_requests
from fedjax_sl.runs.sweep import jobs_of
from fedjax_sl.runs.sweep_loop import train_all
from fedjax_sl.runs.unlearned import unlearned


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
    """Runs in a call of a program, >= 1; as many as there are devices if not given."""

    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints of runs that have not ended, >= 0."""

    # Read by the first pass (`presets.Start`); here for help.
    config: Path | None = None
    """A config.json to start from; options given beside it change it."""

    def __post_init__(self):
        """Checks the ranges."""
        if self.seeds < 1:
            raise InputError(f"seeds={self.seeds}: expected at least 1.")
        if self.at_a_time is not None and self.at_a_time < 1:
            raise InputError(f"at_a_time={self.at_a_time}: expected at least 1.")
        if not 0 <= self.checkpoint_seconds < float("inf"):
            raise InputError(
                f"checkpoint_seconds={self.checkpoint_seconds}: expected a number >= 0."
            )
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


class _Runs(NamedTuple):
    """The runs of a sweep.

    Attributes:
      folder: where they are stored.
      points: their configurations.
      classes: number of classes in the data of each run that the folder lacks, by its
        number.
      at_once: runs in a call of a program, at most.
    """

    folder: SweepFolder
    points: Sequence[RunConfig]
    classes: dict[int, int]
    at_once: int


def _show_missing(runs: _Runs, found: Iterator[int], console: Console) -> None:
    """Shows the runs that the folder lacks as they come, and how far it is."""
    points, lacking = runs.points, len(runs.classes)
    console.print(f"{len(points)} runs of {titles(points)}; {runs.folder.path}")
    times: list[float] = []
    with bar(console, "runs") as progress:
        task = progress.add_task("", total=len(points))
        progress.state = "time left: known after the second call of a program"
        progress.update(task, completed=len(points) - lacking)
        for number in found:
            progress.advance(task)
            times.append(time.monotonic())
            left = seconds_left(times, min(runs.at_once, lacking), lacking)
            if left is not None:
                progress.state = f"about {timedelta(seconds=round(left))} left"
            lines = runs.folder.lines(number)
            console.print(
                f"run {number + 1}/{len(points)}: loss {lines[-1]['train_loss']:.3f}, "
                f"accuracy {lines[-1]['test_accuracy']:.4f}; {progress.state}"
            )
            if sentence := unlearned(lines, runs.classes[number]):
                console.print(f"warning: {sentence}", soft_wrap=True)


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
    folder.check()
    folders.check_free(folder.path)
    # Whatever is wrong with a point is found before the folder is made.
    jobs = jobs_of({n: points[n] for n in folder.missing()})
    asked = _Runs(
        folder=folder,
        points=points,
        # Now: `train_all` drops jobs whose record is complete.
        classes={n: job.test.num_classes for group in jobs for n, job in group.items()},
        at_once=command.at_a_time or jax.device_count(),
    )
    with folder.open():
        try:
            with stop_requests(console.print) as stop_signal:
                found = train_all(
                    jobs,
                    folder,
                    at_a_time=asked.at_once,
                    checkpoint_seconds=command.checkpoint_seconds,
                    stop_signal=stop_signal,
                )
                _show_missing(asked, found, console)
        except Stopped:
            console.print(
                f"stopped; resume it with --folder {folder.path}",
                soft_wrap=True,
            )
            raise
        left_out = folder.write_table()
    runs = [read(path) for path in find([folder.path])]
    groups = grouped(runs, points[0].channel)
    show(groups, usual_target(groups), console)
    console.print(
        f"{folder.path}: a folder for each run; {left_out}"
        if left_out
        else f"{folder.path}/sweep.parquet, and a folder for each run",
        soft_wrap=True,
    )
