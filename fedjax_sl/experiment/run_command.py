"""`fedjax-sl run [METHOD]`: options, the run, and where its record lies."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import jax
import tyro
from rich.console import Console

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment import hosts
from fedjax_sl.experiment.config import FedLPQRun, FedSLRun, Run, from_json
from fedjax_sl.experiment.options import parse
from fedjax_sl.experiment.run import prepare, run
from fedjax_sl.fedlpq import FedLPQConfig


METHODS: dict[str, Run] = {
    "fedsl": FedSLRun(),
    "fedlpq": FedLPQRun(),
    "fedlp": FedLPQRun(method=FedLPQConfig(bits=FLOAT_BITS)),
    "fedavg": FedLPQRun(method=FedLPQConfig(bits=FLOAT_BITS, keep_probability=1.0)),
}
"""What each name starts from."""

OneRun = TypeVar("OneRun", FedSLRun, FedLPQRun)


@dataclass(frozen=True, kw_only=True)
class RunCommand(Generic[OneRun]):
    """Train and evaluate, and leave a folder with the record."""

    run: Annotated[OneRun, tyro.conf.arg(name="")]

    folder: Path | None = None
    """Where the run is kept; runs/METHOD-DATA-TIME if not given."""

    overwrite: bool = False
    """Replace an earlier run in the folder."""

    config: Path | None = None
    """A config.json to start from; options given beside it change it."""

    cluster: Annotated[hosts.Cluster, tyro.conf.arg(name="")] = hosts.Cluster()


def _start(arguments: list[str]) -> tuple[str, list[str], Run]:
    """The method's name, its options, and the configuration that they change."""
    named = bool(arguments) and not arguments[0].startswith("-")
    name, rest = (arguments[0], arguments[1:]) if named else ("fedsl", arguments)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}: expected one of {tuple(METHODS)}.")
    for place, word in enumerate(rest):
        if word == "--config" or word.startswith("--config="):
            _, _, joined = word.partition("=")
            config = from_json(Path(joined or (rest[place + 1 :] or [""])[0]))
            if named and config.algorithm != METHODS[name].algorithm:
                raise ValueError(
                    f"--config is of a run of {config.algorithm}, not of {name}."
                )
            return config.algorithm, rest, config
    return name, rest, METHODS[name]


def run_command(arguments: list[str], console: Console) -> None:
    """Runs what was asked for.

    Raises:
      ValueError: if something asked for is out of range or cannot be had.
      OSError: if something cannot be read or written.
      Diverged: if a loss is no longer finite.
    """
    name, rest, default = _start(arguments)
    if isinstance(default, FedSLRun):
        kind, usual = RunCommand[FedSLRun], RunCommand(run=default)
    else:
        kind, usual = RunCommand[FedLPQRun], RunCommand(run=default)
    command = parse(kind, rest, command=f"run {name}", default=usual)
    config, now = command.run, datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = command.folder or Path("runs") / (
        f"{name}-{config.data.name.replace('/', '-')}-{now}"
    )
    hosts.join(command.cluster)
    hosts.on_first(partial(folders.check, folder, overwrite=command.overwrite))
    console = console if hosts.is_first() else Console(quiet=True)
    job = prepare(config)
    console.print(
        f"{config.title} on {job.train.name}: {len(job.train.label)} training and "
        f"{len(job.test.label)} test images, {config.data.num_clients} clients, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    )
    final = run(job, folder, console)["final"]
    console.print(
        f"test accuracy {final['test_accuracy']:.4f} (majority class "
        f"{final['majority_rate']:.4f}); {folder}/metrics.jsonl, plots/, summary.json"
    )
