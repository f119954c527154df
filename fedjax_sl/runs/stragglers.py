"""Who will be done by a deadline whatever happens, known before a run begins.

As FedCS does (Nishio and Yonetani, 2019), clients that would take too long are left out
before a round rather than waited for. The channel says how fast each is in each round;
what it does is bounded by what it would do with nothing pruned or dropped.
"""

import math

import numpy as np

from fedjax_sl.analysis.phases import done_by, needs
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.errors import InputError
from fedjax_sl.methods import spec_of


AT_A_TIME = 1000
"""Rounds that are looked at at a time."""


def in_time(
    config: RunConfig, train: Dataset, partition: Partition
) -> np.ndarray | None:
    """Who will be done by the channel's deadline in each round.

    Who would be late in one round between two draws of clients has no part in any of
    them.

    Args:
      config: the run, nothing in it left open.
      train: training examples.
      partition: who owns which, of N clients.

    Returns:
      `[T', N]` bool, T' >= T; None if nobody is to be left out.

    Raises:
      ValueError: if nobody will ever be done.
    """
    if not config.drop_stragglers:
        return None
    most, period, cohort = (
        spec_of(config).traffic_bound,
        config.period,
        config.cohort_size,
    )
    if most is None:
        raise InputError(
            f"drop_stragglers=True: {config.algorithm} does not bound what clients "
            "send, so that nobody can be left out before a round."
        )
    deadline = config.channel.deadline_s or math.inf
    # A run that is made longer later has the same last period.
    total = -(-config.rounds // period) * period
    step = -(-AT_A_TIME // period) * period
    parts, least = [], math.inf
    for first in range(0, total, step):
        rounds = np.arange(first, min(first + step, total))
        record = most(config, train, partition, rounds)
        found = needs(
            config.channel, record, cohort, first, sequential=config.sequential
        )
        alone = found.own + cohort * found.turn
        done = done_by(deadline, found, cohort)
        in_period = (-1, period, done.shape[1])
        least = min(least, float(alone.reshape(in_period).max(axis=1).min()))
        done = done.reshape(in_period).all(axis=1)
        parts.append(np.repeat(done, period, axis=0))
    if least > deadline:
        raise InputError(
            f"deadline_s={deadline}: expected at least {least:.4g}, "
            "or no client would ever take part (drop_stragglers)."
        )
    return np.concatenate(parts)
