"""Entry point and results folder that all experiments share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from fedjax_sl.cli.exit_codes import report


RESULTS = Path(__file__).parent / "results"


def run_main(main: Callable[[], None]) -> None:
    """Runs a script on every core, with the exit codes of the commands."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    try:
        main()
    except Exception as error:
        sys.exit(report(error))
