"""The finished runs that a command is about, and the channel they are seen over."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.cli.line import Line
from fedjax_sl.errors import InputError
from fedjax_sl.records.finished_run import Finished, find, read
from fedjax_sl.records.sweep_folder import unfinished
from fedjax_sl.traffic import without_side


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Options of every command about finished runs."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(required)"),
    ]
    """Folders of runs and of sweeps."""

    channel: Channel = field(default_factory=Channel)

    charge_side: bool = True
    """Count side information: norms, headers, masks, layer flags, norm statistics."""

    def __post_init__(self):
        """Checks that a folder is given."""
        if not self.folders:
            raise InputError("no folder: expected that of a run or of a sweep.")


Options = TypeVar("Options", bound=Selection)


def _read_all(given: Sequence[Path], console: Console) -> list[Finished]:
    """Reads runs; of a folder of runs those that can be read.

    Raises:
      ValueError: if one that was named, or every one, cannot be understood.
    """
    runs, wrong = [], None
    for folder in find(given):
        try:
            runs.append(read(folder))
        except ValueError as error:
            # Who names a run wants it; one that was found beside others may just have
            # begun.
            if folder in given:
                raise
            wrong = error
            console.print(f"skipped: {error}", soft_wrap=True)
    if wrong is not None and not runs:
        raise wrong
    for run in runs:
        done, rounds = run.lines[-1]["round"], run.config.rounds
        if done < rounds:
            console.print(f"{run.folder}: at round {done} of {rounds}", soft_wrap=True)
    return runs


def select(
    line: Line, kind: type[Options], console: Console
) -> tuple[Options, list[Finished]]:
    """Parses a command's options and reads its runs.

    Args:
      line: the command line.
      kind: the command's options.
      console: is told of runs and sweeps that are not finished, or cannot be read.

    Returns:
      The options, over the first run's channel as far as nothing else was said; the
      runs, their records without side information if it is not to be counted.

    Raises:
      ValueError: if a folder or an option makes no sense, or the runs are of different
        data sets, so that their accuracies cannot be compared.
      OSError: if something cannot be read.
    """
    options = line.parse(kind)
    runs = _read_all(options.folders, console)
    for sentence in unfinished(options.folders):
        console.print(sentence, soft_wrap=True)
    names = sorted({run.config.data.name for run in runs})
    if len(names) > 1:
        raise InputError(f"runs on {' and '.join(names)}: expected one data set.")
    # Options of the channel change that of the first run, which is known only now.
    options = line.parse(replace(options, channel=runs[0].config.channel))
    # In the record itself, since seconds and joules follow from its bits.
    if not options.charge_side:
        runs = [run._replace(record=without_side(run.record)) for run in runs]
    return options, runs
