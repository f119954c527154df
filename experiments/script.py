"""How every experiment is started, and where its results lie."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax


RESULTS = Path(__file__).parent / "results"


def run_main(main: Callable[[], None]) -> None:
    """Runs a script on every core; what is wrong is one sentence and exit code 2."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
