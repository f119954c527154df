"""`fedjax-sl run [METHOD]`: options, the run, and where its record lies."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from fedjax_sl.cli.line import SUMMARIES, Line
from fedjax_sl.cli.presets import methods_of
from fedjax_sl.configs.fields import flattened
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.sources import place_of
from fedjax_sl.errors import InputError
from fedjax_sl.methods import presets
from fedjax_sl.records import run_folder as folders
from fedjax_sl.reports.labels import without_effect
from fedjax_sl.runs import distributed
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.restore import check_folder
from fedjax_sl.runs.run import run
from fedjax_sl.runs.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Train and evaluate, and leave a folder with the record."""

    run: Annotated[RunConfig, tyro.conf.arg(name="")]

    folder: Path | None = None
    """Where the run is kept; runs/METHOD-DATA-TIME if not given."""

    overwrite: bool = False
    """Replace an earlier run in the folder."""

    # Read by the first pass (`presets.Start`); here for help.
    config: Path | None = None
    """A config.json to start from; options given beside it change it."""

    checkpoint: Annotated[Keeping, tyro.conf.arg(name="")] = Keeping()

    tracking: Annotated[Tracking, tyro.conf.arg(name="")] = Tracking()

    cluster: Annotated[distributed.Cluster, tyro.conf.arg(name="")] = (
        distributed.Cluster()
    )

    def __post_init__(self):
        """Checks that a run to resume is named, and is not to be replaced."""
        if self.checkpoint.resume and (self.folder is None or self.overwrite):
            raise InputError("--resume: expected --folder, and no --overwrite.")


def _check_folder(folder: Path, command: RunCommand) -> None:
    """Refuses a folder that the run may not have."""
    resume = command.checkpoint.resume
    check_folder(folder, command.run, resume=resume, overwrite=command.overwrite)
    folders.check_free(folder)


def _classes(given: dict[str, Any]) -> Iterator[str]:
    """Says where numbers of devices by class do not belong to the same devices."""
    counts = {
        name: len(value)
        for name, value in given.items()
        if isinstance(value, tuple) and len(value) > 1
        # Not ranges, nor sizes of clients: of the channel, clocks alone are by class.
        if name in ("channel.clock_hz", "model.cut") or name.startswith("method.")
    }
    kinds = math.lcm(*counts.values())
    if len(counts) > 1 and kinds > max(counts.values()):
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        yield (
            f"warning: classes are {said}, each client k mod their number, which makes "
            f"{kinds} kinds of device; as many of each belong together"
        )


def _warnings(config: RunConfig, usual: RunConfig) -> Iterator[str]:
    """Says what was given in vain.

    Args:
      config: of the run.
      usual: of the preset or file that it starts from, whose values were not given.
    """
    # By difference: idle options that a preset or a file sets were not given in vain.
    given, before = flattened(config), flattened(usual)
    for name in sorted(without_effect(config)):
        if name in given and given[name] != before.get(name):
            yield f"warning: {name}={given[name]} has no effect with the other options"
    if config.channel.deadline_s is not None and not config.drop_stragglers:
        yield (
            "warning: with a deadline and without --drop-stragglers, updates that come "
            "after it count all the same: seconds end at it, accuracies do not"
        )
    idle = without_effect(config)
    yield from _classes({name: x for name, x in given.items() if name not in idle})
    if config.period > config.rounds:
        yield (
            f"warning: a period of {config.period} rounds does not end in "
            f"{config.rounds}: nothing is aggregated"
        )


def _short(data_name: str) -> str:
    """Returns the name of a data set as part of the name of a folder."""
    if own := place_of(data_name):
        return f"{own[0]}-{Path(own[1]).stem:.60}"
    return data_name.replace("/", "-")


def _command(config: RunConfig) -> RunCommand:
    return RunCommand(run=config)


def run_command(line: Line, console: Console) -> None:
    """Trains, and prints where the record lies.

    Raises:
      ValueError: if an option is out of range or cannot be had.
      OSError: if something cannot be read or written.
      Diverged: if a loss is no longer finite.
      Stopped: if a signal requested it.
    """
    branches, default = methods_of(line.start, _command)
    name, command = line.parse_one_of(branches, SUMMARIES["run"], default)
    line.start.check_method(name, command.run)
    config, now = command.run, datetime.now().strftime("%Y%m%d-%H%M%S")
    own = f"{name}-{_short(config.data.name)}-{now}"
    folder = command.folder or Path("runs") / own
    # Before JAX computes anything, which would settle the devices of this process.
    distributed.join(command.cluster)
    # After `join`, before which every process is the first.
    console = console if distributed.is_first() else Console(quiet=True)
    if command.checkpoint.resume and not (folder / folders.CONFIG).exists():
        console.print(f"{folder} holds no run yet: starting", soft_wrap=True)
    # `run` checks again; here a refusal comes before data are loaded.
    distributed.on_first(partial(_check_folder, folder, command))
    job = prepare(config)
    # After what may be refused, such as data that are not there.
    for sentence in _warnings(config, line.start.stored or presets()[name][1].run):
        console.print(sentence, soft_wrap=True)
    summary = run(
        job,
        folder,
        console=console,
        keeping=command.checkpoint,
        tracked=command.tracking,
        overwrite=command.overwrite,
    )
    if summary is None:
        return
    final = summary["final"]
    # Without Matplotlib there are none.
    plots = "plots/, " if (folder / folders.PLOTS).exists() else ""
    console.print(
        f"{config.data.accuracy} {final['test_accuracy']:.4f} (majority class "
        f"{final['majority_rate']:.4f}); {folder}/metrics.jsonl, {plots}summary.json",
        soft_wrap=True,
    )
