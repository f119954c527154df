"""What `sweep` shows: how far it is, and in the end all runs or those of a part."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from rich.console import Console

from fedjax_sl.cli.compare import show
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.records.finished_run import find, read
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.reports.groups import grouped, usual_target
from fedjax_sl.reports.labels import titles
from fedjax_sl.runs.not_learning import not_learning
from fedjax_sl.runs.progress import bar, seconds_left


class Runs(NamedTuple):
    """The runs of a sweep.

    Attributes:
      folder: where they are stored.
      points: their configurations.
      mine: numbers of those that this process sees to.
      classes: number of classes in the data of each run that the folder lacks, by its
        number.
      at_once: runs in a call of a program, at most.
    """

    folder: SweepFolder
    points: Sequence[RunConfig]
    mine: Sequence[int]
    classes: dict[int, int]
    at_once: int


def show_missing(runs: Runs, found: Iterator[int], console: Console) -> None:
    """Shows the runs that the folder lacks as they come, and how far it is."""
    points, lacking = runs.points, len(runs.classes)
    some = "" if len(runs.mine) == len(points) else f"{len(runs.mine)} of "
    runs_of = "run" if len(points) == 1 else "runs"
    console.print(
        f"{some}{len(points)} {runs_of} of {titles(points)}; {runs.folder.path}",
        soft_wrap=True,
    )
    times: list[float] = []
    with bar(console, "runs") as progress:
        task = progress.add_task("", total=len(runs.mine))
        # The first call compiles: its time says nothing about the next.
        progress.state = "time left: not known before the second call of a program"
        # Runs of earlier calls are done: the bar is of the sweep, not of this process.
        progress.update(task, completed=len(runs.mine) - lacking)
        for number in found:
            progress.advance(task)
            times.append(time.monotonic())
            left = seconds_left(times, min(runs.at_once, lacking), lacking)
            if left is not None:
                progress.state = f"about {timedelta(seconds=round(left))} left"
            # From its final folder: what is shown is what is stored.
            lines = runs.folder.lines(number)
            console.print(
                f"run {number + 1}/{len(points)}: loss {lines[-1]['train_loss']:.3f}, "
                f"accuracy {lines[-1]['test_accuracy']:.4f}; {progress.state}",
                soft_wrap=True,
            )
            warmup = points[number].warmup_rounds
            classes = runs.classes[number]
            if sentence := not_learning(lines, classes, warmup_rounds=warmup):
                console.print(f"warning: {sentence}", soft_wrap=True)


def show_all(folder: SweepFolder, left_out: str, console: Console) -> None:
    """Shows the table of all runs, and where they lie."""
    # Read back, as `compare` does: earlier calls may have trained some of them.
    runs = [read(path) for path in find([folder.path])]
    groups = grouped(runs, folder.points[0].channel)
    show(groups, usual_target(groups), console)
    console.print(
        f"{folder.path}: a folder for each run; {left_out}"
        if left_out
        else f"{folder.path}/sweep.parquet, and a folder for each run",
        soft_wrap=True,
    )


def show_part(folder: SweepFolder, part: str, console: Console) -> None:
    """Says how far the sweep is, once the runs of a part are finished."""
    every, missing = len(folder.points), len(folder.missing())
    console.print(
        f"part {part} is finished; {every - missing} of {every} runs are in "
        f"{folder.path}; --merge instead of --part writes the table of all",
        soft_wrap=True,
    )
