"""Cost of many rounds over a channel, from the counts of each kind of round."""

import math
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.traffic import Record


WINDOW = 60
"""Rounds that are simulated one by one; the rest is extrapolated from their mean."""


class Cost(NamedTuple):
    """Cost of rounds: simulated seconds, and joules of all devices."""

    seconds: float
    joules: float


def cost(
    channel: Channel, kinds: Record, *, interval: int, rounds: int, num_clients: int
) -> Cost:
    """Returns the cost of so many rounds over a channel.

    About the first `WINDOW` rounds, in whole periods, are simulated one by one under
    their fading; further ones cost as much on average. Cohorts follow one another
    through the clients, one for each period.

    Args:
      channel: the cell.
      kinds: counts of four rounds: within a period, at its end, at its start, and both
        at once.
      interval: I.
      rounds: R, >= 1.
      num_clients: N.

    Returns:
      A `Cost`.
    """
    # Whole periods: updates are sent at their ends only.
    seen = min(rounds, interval * math.ceil(WINDOW / interval))
    number = np.arange(seen)
    # Index into `kinds`: 2 if a period starts, plus 1 if it ends.
    kind = 2 * (number % interval == 0) + ((number + 1) % interval == 0)
    record: Record = jax.tree.map(lambda x: x[kind], kinds)
    first = number // interval * kinds.client_id.shape[1]
    ids = (first[:, None] + kinds.client_id[:1]) % num_clients
    # Nothing is sequential: the theorem does not cover it.
    costs = round_costs(channel, record._replace(client_id=ids))
    factor = rounds / seen
    return Cost(float(costs.seconds.sum()) * factor, float(costs.joules.sum()) * factor)
