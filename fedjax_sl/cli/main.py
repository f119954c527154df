"""The command line: `fedjax-sl COMMAND`."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from rich.console import Console

from fedjax_sl.cli.bound import bound_command
from fedjax_sl.cli.compare import compare_command
from fedjax_sl.cli.cost import cost_command
from fedjax_sl.cli.exit_codes import BAD_INPUT, INTERRUPTED, report
from fedjax_sl.cli.privacy import privacy_command
from fedjax_sl.cli.report import report_command
from fedjax_sl.cli.run import run_command
from fedjax_sl.cli.suggest import suggest_command
from fedjax_sl.cli.sweep import sweep_command
from fedjax_sl.methods import methods, presets


USAGE = """usage: fedjax-sl run [METHOD] [--help] [OPTIONS]
       fedjax-sl sweep [METHOD] --grid FIELD=VALUE,... [--seeds N] [OPTIONS]
       fedjax-sl compare FOLDER... [--target ACCURACY] [OPTIONS]
       fedjax-sl suggest FOLDER... --target ACCURACY [--by seconds] [OPTIONS]
       fedjax-sl suggest --bound TARGET [--by seconds] [OPTIONS]
       fedjax-sl report FOLDER... [--output PAGE] [OPTIONS]
       fedjax-sl privacy FOLDER... [--delta DELTA]
       fedjax-sl cost METHOD [--help] [OPTIONS]
       fedjax-sl bound [--help] [OPTIONS]

  run            train, evaluate, and leave a folder with the record; with no options,
                 on the embedded digits, offline, in about a minute
{presets}  sweep          the same for every combination of values, compiled together
  compare        what finished runs reach, and the bits, seconds and joules it takes
                 over a channel, without training
  suggest        of these runs, the settings that reach an accuracy at least cost;
                 or, with no runs, those that do by the convergence bound
  report         what they reach, as a page with pictures, in one file
  privacy        what differential privacy clients had whose updates had noise added
  cost           what clients compute and send, without training
{costs}  bound          the convergence bound, its constants estimated in a short run
"""

COMMANDS: dict[str, Callable[[list[str], Console], None]] = {
    "run": run_command,
    "sweep": sweep_command,
    "compare": compare_command,
    "suggest": suggest_command,
    "report": report_command,
    "privacy": privacy_command,
    "cost": cost_command,
    "bound": bound_command,
}


def _prepare_jax() -> None:
    """One CPU device for each core, and compiled programs kept for the next run."""
    if jax.config.values["jax_num_cpu_devices"] < 1:  # JAX_NUM_CPU_DEVICES not set
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        programs = Path(base) / "fedjax_sl/xla"
        jax.config.update("jax_compilation_cache_dir", str(programs))


def usage() -> str:
    """What is shown without a command; methods of other packages are in it."""

    def listed(helps: dict[str, str]) -> str:
        return "".join(f"    {name:<12} {said}\n" for name, said in helps.items())

    every = {name: preset.help for name, (_, preset) in presets().items()}
    every[next(iter(every))] += " (the default)"
    costs = {n: spec.costs.help for n, spec in methods().items() if spec.costs}
    return USAGE.format(presets=listed(every), costs=listed(costs))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, or as `exit_codes` says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), end="")
        sys.exit(0)
    if arguments[0] not in COMMANDS:
        print(f"error: unknown command {arguments[0]!r}.\n{usage()}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    _prepare_jax()
    try:
        COMMANDS[arguments[0]](arguments[1:], Console(highlight=False))
    except Exception as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
