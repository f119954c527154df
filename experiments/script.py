"""Entry point and results folder that all experiments share."""

import sys
from collections.abc import Callable
from pathlib import Path

from fedjax_sl.cli.exit_codes import report
from fedjax_sl.federation.cpu import prepare_cpu


RESULTS = Path(__file__).parent / "results"


def run_main(main: Callable[[], None]) -> None:
    """Runs a script on every core, with the exit codes of the commands."""
    prepare_cpu()
    try:
        main()
    except Exception as error:
        sys.exit(report(error))
