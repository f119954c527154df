"""Options of a command, parsed from a dataclass that says what each one means."""

import contextlib
import io
import re
from typing import Any, TypeVar

import tyro

from fedjax_sl.errors import InputError


Options = TypeVar("Options")


def parse(
    kind: type[Options], arguments: list[str], *, command: str, default: Any = None
) -> Options:
    """Parses a command's options.

    Args:
      kind: the dataclass.
      arguments: as typed.
      command: its name, for help and usage.
      default: what is not given stays as here.

    Returns:
      The options.

    Raises:
      ValueError: if an option is unknown or cannot be understood, or the dataclass
        refuses its value.
      SystemExit: 0 after help.
    """
    shown = io.StringIO()
    usual = {} if default is None else {"default": default}
    program = f"fedjax-sl {command}"
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, prog=program, args=arguments, **usual)
    except SystemExit as stop:
        if not stop.code:
            raise
        said = _sentence(shown.getvalue())
        refused = None if said.startswith(UNREAD) else _refused_value(stop)
        said = said.removeprefix("Error parsing ").rstrip(".")
        raise refused or InputError(f"{said}; see {program} --help.") from None


UNREAD = "Error parsing --"
"""How a box begins about a text that is no value of its option's type."""


def _sentence(box: str) -> str:
    """What a box says first, and which options it takes to be meant.

    Where a terminal has no other characters its rules are of dashes, one of them
    below its title, and it has no sides.
    """
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    if lines and not lines[0].strip("-"):
        del lines[0]
    end = next((n for n, line in enumerate(lines) if not line.strip("─-")), None)
    said = " ".join(lines[:end])
    known = re.findall(r"^[│ ] {5}(--[\w.-]+)", box, re.MULTILINE)
    meant = ", ".join(dict.fromkeys(known)) if said.startswith("Unrecog") else ""
    return f"{said}; did you mean {meant}" if meant else said


def _refused_value(error: BaseException | None) -> ValueError | None:
    """The ValueError that a dataclass answered a value with, if any did."""
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__ or error.__context__
    return error
