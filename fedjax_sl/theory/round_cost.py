"""What many rounds take over a channel, from what each kind of them takes."""

import math
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.traffic import Record


WINDOW = 60
"""Rounds that are looked at one by one; more of them take as long on average."""


class Cost(NamedTuple):
    """What rounds take: s, and J of all devices."""

    seconds: float
    joules: float


def cost(
    channel: Channel, kinds: Record, *, interval: int, rounds: int, num_clients: int
) -> Cost:
    """What so many rounds take over a channel.

    The first `WINDOW` or so, whole periods, are looked at one by one, under their
    fading; if there are more they take as much on average. Clients have their periods
    in turn.

    Args:
      channel: the cell.
      kinds: of four rounds: those within a period, that end one, that start one, and
        that do both.
      interval: I.
      rounds: R, >= 1.
      num_clients: N.

    Returns:
      A `Cost`.
    """
    seen = min(rounds, interval * math.ceil(WINDOW / interval))
    number = np.arange(seen)
    kind = 2 * (number % interval == 0) + ((number + 1) % interval == 0)
    record: Record = jax.tree.map(lambda x: x[kind], kinds)
    first = number // interval * kinds.client_id.shape[1]
    ids = (first[:, None] + kinds.client_id[:1]) % num_clients
    took = round_costs(channel, record._replace(client_id=ids))
    factor = rounds / seen
    return Cost(float(took.seconds.sum()) * factor, float(took.joules.sum()) * factor)
