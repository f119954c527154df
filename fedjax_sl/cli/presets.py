"""The options that the defaults of all others depend on, and those defaults.

A command line is parsed twice. `--config FILE`, or `--folder` with `--resume`, name a
file with the method and the defaults of its options, and tyro needs both before it
parses. So the first pass parses these few options alone, and the second pass all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import tyro

from fedjax_sl.cli.options import PROGRAM, Branch, call
from fedjax_sl.configs.fields import undecided
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.methods import presets, spec_of
from fedjax_sl.records.run_folder import CONFIG
from fedjax_sl.runs.build import BROUGHT


Options = TypeVar("Options")


@dataclass(frozen=True)
class Start:
    """The options of the first pass."""

    command: tyro.conf.Positional[str] = ""
    config: Path | None = None
    folder: Path | None = None
    resume: bool = False
    # A text: only the second pass checks the number.
    bound: str | None = None

    @property
    def name(self) -> str:
        """The name of the command; `suggest --bound` is an alias of `plan`."""
        by_bound = self.command == "suggest" and self.bound is not None
        return "plan" if by_bound else self.command

    @property
    def file(self) -> Path | None:
        """The config.json to start from: one given, or that of the run to resume."""
        if self.config is not None or not self.resume or self.folder is None:
            return self.config
        stored = self.folder / CONFIG
        # A run that has left nothing yet is started, with the usual defaults.
        return stored if stored.exists() else None

    # Cached: each branch asks, and all have to start from one reading of the file.
    @cached_property
    def stored(self) -> RunConfig | None:
        """The configuration in that file; what its run decided is open, but to resume.

        Raises:
          ValueError: if it is none.
          OSError: if it cannot be read.
        """
        if self.file is None:
            return None
        if not self.file.exists():
            raise InputError(f"config={self.file}: there is no such file.")
        found = from_json(self.file)
        return found if self.resume else undecided(found)

    def check_method(self, name: str, config: RunConfig) -> None:
        """Refuses a method that the file is not of.

        Raises:
          ValueError: if it is of another one.
        """
        if self.stored is not None and self.stored.algorithm != config.algorithm:
            raise InputError(
                f"{self.file} is of a run of {self.stored.algorithm}, not of {name}."
            )


def start_of(words: tuple[str, ...]) -> Start:
    """The first pass over a command line.

    Raises:
      ValueError: if a value of one of these options is missing.
    """
    # Without help, which would show these options alone.
    start, _ = call(
        Start, words, see=f"{PROGRAM} --help", return_unknown_args=True, add_help=False
    )
    return start


def methods_of(
    start: Start, command: Callable[[RunConfig], Options]
) -> tuple[dict[str, Branch[Options]], str]:
    """The methods that a command has, and the one that it is of if none is given.

    Args:
      start: the options of the first pass.
      command: makes a command's options from the configuration to start from.

    Returns:
      Both.

    Raises:
      ValueError: if the run to resume is not one of the command line's.
    """
    stored, branches = start.stored, {}
    # Its configuration does not tell what the program's own algorithm does.
    if stored is not None and spec_of(stored).build is None:
        raise InputError(BROUGHT)
    for name, (spec, preset) in presets().items():
        same = stored is not None and stored.algorithm == spec.config.algorithm
        # A file takes the place of every preset of its method.
        config = stored if stored is not None and same else preset.run
        branches[name] = Branch(command(config), preset.help)
    if stored is None:
        return branches, next(iter(branches))
    # By its first preset: a method need not have one of its own name.
    return branches, next(iter(spec_of(stored).presets))
