"""Options of a command, parsed from a dataclass that says what each one means."""

import contextlib
import io
import sys
from typing import Any, TypeVar

import tyro


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
      ValueError: if the dataclass refuses a value.
      SystemExit: 2 for what cannot be understood, after saying so; 0 after help.
    """
    shown = io.StringIO()
    usual = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, prog=f"fedjax-sl {command}", args=arguments, **usual)
    except SystemExit as stop:
        if refused := _refused_value(stop):
            raise refused from None
        sys.stderr.write(shown.getvalue())
        raise


def _refused_value(error: BaseException | None) -> ValueError | None:
    """The ValueError that a dataclass answered a value with, if any did."""
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__ or error.__context__
    return error
