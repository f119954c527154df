"""The command line: `fedjax-sl COMMAND`."""

import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from rich.console import Console

import fedjax_sl
from fedjax_sl.cli.completion import FLAGS, write
from fedjax_sl.cli.exit_codes import INTERRUPTED, PIPE_CLOSED, report
from fedjax_sl.cli.line import SUMMARIES, Line, Nothing, entry
from fedjax_sl.cli.options import PROGRAM, Names, call, union
from fedjax_sl.cli.presets import start_of
from fedjax_sl.federation.cpu import prepare_cpu
from fedjax_sl.methods import presets


def _command(name: str) -> Callable[[Line, Console], None]:
    """Imports a command: Matplotlib, which only some of them need, takes a second."""
    return pkgutil.resolve_name(f"fedjax_sl.cli.{name}:{name}_command")


def _prepare_jax() -> None:
    """One CPU device for each core, and compiled programs kept for the next run."""
    # Before JAX computes anything, which settles its devices.
    prepare_cpu()
    # A folder that the user has set stays.
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        programs = Path(base) / "fedjax_sl/xla"
        jax.config.update("jax_compilation_cache_dir", str(programs))


def _about() -> str:
    """The description of the program: its methods, other packages' too."""
    helps = {name: preset.help for name, (_, preset) in presets().items()}
    methods = (entry(name, said, column=20) for name, said in helps.items())
    return (
        f"{PROGRAM} run trains on the embedded digits, offline, in a few minutes.\n\n"
        f"Methods of run and sweep, the first one if none is given:\n{''.join(methods)}"
    )


def execute(words: Sequence[str], console: Console) -> None:
    """Parses a command line and runs its command.

    Raises:
      Exception: as `exit_codes` tells apart.
      SystemExit: 0 after help.
    """
    words = tuple(words) or ("--help",)
    if words == ("--version",):
        console.print(f"{PROGRAM} {fedjax_sl.__version__}")
        return
    if words[0] in FLAGS:
        write(words, _command)
    start = start_of(words)
    if start.name in SUMMARIES:
        _command(start.name)(Line(words, start), console)
        return
    # tyro shows the program's help, or refuses what is no command.
    kinds = {name: (Nothing, said) for name, said in SUMMARIES.items()}
    call(
        union(kinds),
        words,
        see=f"{PROGRAM} --help",
        names=Names("command", SUMMARIES),
        description=_about(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, or as `exit_codes` says."""
    # Not when imported: a program may use these modules on devices of its own.
    _prepare_jax()
    try:
        execute(
            sys.argv[1:] if argv is None else argv,
            # Names and paths as they are: brackets are no markup, digits have no
            # colour.
            Console(highlight=False, markup=False),
        )
    except BrokenPipeError:
        # A reader such as `head` has enough; Python would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except Exception as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        # Only where a program calls this: `__main__` obeys signals by itself.
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
