"""Finds stragglers before a run: clients that would miss the channel's deadline.

As in FedCS (Nishio and Yonetani, 2019), clients that would take too long are excluded
before a round rather than waited for. The channel gives the speed of each client in
each round; its work is bounded by that with nothing pruned or dropped.
"""

import math

import numpy as np

from fedjax_sl.analysis.phases import done_by, needs
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.methods import spec_of


AT_A_TIME = 1000
"""Rounds in a batch of the computation, which bounds its memory."""


def in_time(
    config: RunConfig, train: Dataset, partition: Partition
) -> np.ndarray | None:
    """Returns which clients meet the channel's deadline in each round.

    A straggler in one round of a period is excluded from the whole period.

    Args:
      config: resolved configuration of the run.
      train: training examples.
      partition: partition among the N clients.

    Returns:
      `[T', N]` bool, T' >= T; None if stragglers are not excluded.

    Raises:
      ValueError: if no client ever meets the deadline.
    """
    if not config.drop_stragglers:
        return None
    period, cohort = config.period, config.cohort_size
    traffic_bound = spec_of(config).traffic_bound
    if traffic_bound is None:
        raise InputError(
            f"drop_stragglers=True: {config.algorithm} does not bound what clients "
            "send, so that nobody can be left out before a round."
        )
    deadline = config.channel.deadline_s or math.inf
    most = traffic_bound(config, train, partition)
    # Whole periods: a run that is extended later decides its last one in the same way.
    total = -(-config.rounds // period) * period
    # Whole periods in each part, too: `done_by` judges a period by all its rounds.
    step = -(-AT_A_TIME // period) * period
    parts, least = [], math.inf
    for first in range(0, total, step):
        rounds = np.arange(first, min(first + step, total))
        found = needs(
            config.channel, most(rounds), cohort, first, sequential=config.sequential
        )
        # A cohort is drawn for a period: a client belongs to all of it or to none.
        parts.append(done_by(deadline, found, cohort, period=period))
        # For the message: the shortest deadline that admits a client.
        alone = found.alone(cohort).reshape(-1, period, parts[-1].shape[1])
        least = min(least, float(alone.max(axis=1).min()))
    if least > deadline:
        raise InputError(
            f"deadline_s={deadline}: expected at least {least:.4g}, "
            "or no client would ever participate (drop_stragglers)."
        )
    return np.concatenate(parts)
