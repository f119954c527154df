"""About how long a run will take, said once its pace has been measured."""

import time
from collections.abc import Callable
from datetime import timedelta

from fedjax_sl.runs.calls import CALL_SECONDS
from fedjax_sl.runs.programs import Programs


def forecasting(
    programs: Programs, rounds: int, say: Callable[[str], None]
) -> Programs:
    """Times a run's calls, and says once about how long its other rounds will take.

    Args:
      programs: of the run.
      rounds: of the run, in all.
      say: called with the sentence.

    Returns:
      Programs that do the same.
    """
    calls, timed, seconds, said = 0, 0, 0.0, False

    def advance(state, first, count):
        nonlocal calls, timed, seconds, said
        started = time.monotonic()
        found = programs.advance(state, first, count)
        calls += 1
        # The first call compiles, so its time says nothing about later ones.
        if calls > 1:
            timed, seconds = timed + count, seconds + time.monotonic() - started
        left = rounds - first - count
        # Of calls that take milliseconds a few are waited for.
        if not said and left and seconds >= CALL_SECONDS / 2:
            said, needed = True, timedelta(seconds=round(left * seconds / timed))
            say(f"about {needed} left for {left} rounds, without evaluations")
        return found

    return programs._replace(advance=advance)
