"""Step 9 of a FedSL period: one client model of the clients' updates."""

from typing import NamedTuple

import numpy as np

from tests.reference import averages
from tests.reference.cut import weights
from tests.reference.half import Half, channels_kept
from tests.reference.pruning import applied


class Model(NamedTuple):
    """Parameters and running statistics of the clients' half."""

    params: dict
    statistics: dict


class Member(NamedTuple):
    """What a client has at the end of a period."""

    half: Half
    mask: dict


def aggregated(config, anchor, members, cohort):
    """The mean of what arrives, entry by entry.

    Args:
      config: the settings.
      anchor: the `Model` at the start of the period.
      members: those who have a part, by place.
      cohort: a `Visitor` for each place.

    Returns:
      The new `Model`, and the places of those whose update is too long.
    """
    start = {
        k: anchor.params if config.restore else applied(one.mask, anchor.params)
        for k, one in members.items()
    }
    update = {
        k: applied(one.mask, difference(one.half.params, start[k]))
        for k, one in members.items()
    }
    rejected = [k for k in members if is_too_long(config, update[k])]
    believed = [k for k in members if k not in rejected]
    if not believed:
        return anchor, rejected
    omega = weights(cohort, believed, config.client_weight)
    short = {k: averages.clipped(update[k], config.clip_norm) for k in believed}
    return Model(
        params={
            n: averaged(
                config,
                [start[k][n] + short[k][n] for k in believed],
                [omega[k] for k in believed],
                [members[k].mask[n] for k in believed],
                old,
            )
            for n, old in anchor.params.items()
        },
        statistics={
            n: average(
                config,
                [members[k].half.statistics[n] for k in believed],
                [omega[k] for k in believed],
                [channels_kept(members[k].mask, n) for k in believed],
                old,
            )
            for n, old in anchor.statistics.items()
        },
    ), rejected


def difference(params, start):
    """How far parameters are from where they started."""
    return {n: p - start[n] for n, p in params.items()}


def is_too_long(config, update):
    """Whether an update is not believed."""
    most = config.max_update_norm
    return most is not None and averages.length(update) > most


def averaged(config, values, omega, kept, old):
    """One array's mean over all, or over those who kept an entry."""
    if config.average_over == "all":
        kept = [np.True_ for _ in kept]
    nobody = old if config.restore else np.zeros_like(old)
    return average(config, values, omega, kept, nobody)


def average(config, values, omega, kept, nobody):
    """The weighted mean of what is kept, or the trimmed mean."""
    if config.trim is not None:
        return averages.trimmed_mean(values, kept, nobody, config.trim)
    return averages.keepers_mean(values, omega, kept, nobody)
