"""The command line: `fedjax-sl run [fedsl]`."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment.config import RunConfig, from_json
from fedjax_sl.experiment.run import Diverged, prepare, run


USAGE = """usage: fedjax-sl run [fedsl] [--help] [OPTIONS]

  run fedsl   lightweight federated split learning; with no options, on the embedded
              digits, offline, in about a minute
"""

BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Train and evaluate, and leave a folder with the record."""

    run: Annotated[RunConfig, tyro.conf.arg(name="")]

    folder: Path | None = None
    """Where the run is kept; runs/METHOD-DATA-TIME if not given."""

    overwrite: bool = False
    """Replace an earlier run in the folder."""

    config: Path | None = None
    """A config.json to start from; options given beside it change it."""


def _command(arguments: list[str]) -> RunCommand:
    """Parses the options of `run`, on top of a config.json where one is named."""
    defaults = RunConfig()
    for place, word in enumerate(arguments):
        if word.startswith("--config"):
            _, _, joined = word.partition("=")
            named = joined or (arguments[place + 1 :] or [""])[0]
            defaults = from_json(Path(named))
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                RunCommand,
                prog="fedjax-sl run",
                args=arguments,
                default=RunCommand(run=defaults),
            )
    except SystemExit as stop:
        if refused := _refused_value(stop):
            raise refused from None
        sys.stderr.write(shown.getvalue())
        raise


def _refused_value(error: BaseException | None) -> ValueError | None:
    """The ValueError that a configuration answered a value with, if any did."""
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__ or error.__context__
    return error


def _run(arguments: list[str], console: Console) -> None:
    command = _command(arguments)
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = command.folder or Path("runs") / (
        f"fedsl-{command.run.data.name.replace('/', '-')}-{now}"
    )
    folders.check(folder, overwrite=command.overwrite)
    job = prepare(command.run)
    console.print(
        f"FedSL on {job.train.name}: {len(job.train.label)} training and "
        f"{len(job.test.label)} test images, {command.run.data.num_clients} clients, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        highlight=False,
    )
    try:
        summary = run(job, folder, console)
    except Diverged as error:
        console.print(f"diverged: {error}", style="red", highlight=False)
        sys.exit(DIVERGED)
    final = summary["final"]
    console.print(
        f"test accuracy {final['test_accuracy']:.4f} (majority class "
        f"{final['majority_rate']:.4f}); {folder}/metrics.jsonl, plots/, summary.json",
        highlight=False,
    )


def _prepare_jax() -> None:
    """One CPU device for each core, and compiled programs kept for the next run."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(base) / "fedjax_sl/xla"))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 2 (bad input), 3 (diverged) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0)
    if arguments[0] != "run":
        print(f"error: unknown command {arguments[0]!r}.\n{USAGE}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    rest = arguments[2:] if arguments[1:2] == ["fedsl"] else arguments[1:]
    _prepare_jax()
    try:
        _run(rest, Console())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
