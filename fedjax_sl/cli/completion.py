"""Scripts by which a shell completes commands, methods, options and their choices."""

from collections.abc import Callable
from typing import Any, NoReturn

from rich.console import Console

from fedjax_sl.cli.line import SUMMARIES, Line
from fedjax_sl.cli.options import PROGRAM, call, union
from fedjax_sl.cli.presets import Start
from fedjax_sl.errors import InputError


FLAGS = ("--tyro-write-completion", "--tyro-print-completion")
"""Of tyro, followed by a shell; the first one by a file, too, or -."""

SHELLS = ("bash", "zsh", "tcsh", "fish")

Command = Callable[[Line, Console], None]


class _Completed(Exception):
    """What a command's line would be parsed as."""

    def __init__(self, kind: Any, about: str):
        super().__init__(about)
        self.kind, self.about = kind, about


class _Asking(Line):
    """A line that is not parsed, but raises what it would be parsed as."""

    def _filled(self, kind: Any, about: str, *_: Any) -> NoReturn:
        raise _Completed(kind, about)


def _options_of(name: str, command: Command) -> tuple[Any, str]:
    """The options of a command, which it parses before it does anything else."""
    try:
        # What a command parses is known to it alone: a list here could fall behind.
        command(_Asking((name,), Start(name)), Console(quiet=True))
    except _Completed as found:
        return found.kind, found.about
    raise AssertionError(f"{name} parses nothing")


def write(words: tuple[str, ...], command_of: Callable[[str], Command]) -> None:
    """Prints or writes the script that a command line asks for.

    Args:
      words: of the command line, the first one in `FLAGS`.
      command_of: imports a command.

    Raises:
      ValueError: if the shell or the file is missing, or the shell is not known.
      OSError: if the file cannot be written.
      SystemExit: 0 at the end.
    """
    flag, *rest = words
    to_file = flag == FLAGS[0]
    if len(rest) != 1 + to_file or rest[0] not in SHELLS:
        file = " and a file, or -" if to_file else ""
        raise InputError(f"{flag}: expected one of {SHELLS}{file}.")
    # Of all commands, where a line that is run needs those of one.
    kinds = {name: _options_of(name, command_of(name)) for name in SUMMARIES}
    call(union(kinds), words, see=f"{PROGRAM} --help")
