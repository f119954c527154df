"""Differential privacy of a run's clients, accounted for after the run.

Rounds are composed by Rényi differential privacy (Mironov, 2017) with Google's
`dp-accounting`, which the extra `privacy` installs.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.extras import require
from fedjax_sl.traffic import Record


# Without whole numbers, which would be there twice.
FRACTIONS = tuple(1 + step / 20 for step in range(1, 200) if step % 20)
WHOLE_ORDERS = (*range(2, 65), 128, 256, 512, 1024)
ORDERS = tuple(sorted((*FRACTIONS, *WHOLE_ORDERS)))
"""Rényi orders; small ones matter where epsilon is large. The closed form of sampling
without replacement holds for integers only."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of the accountant is news."""
    # Its series for some small orders does not converge: one bound less among many.
    return "Excluding this order" not in record.getMessage()


class Participation(NamedTuple):
    """How often clients participated.

    Attributes:
      aggregates: number of aggregated cohorts.
      most: largest number of aggregates that one client contributed to.
    """

    aggregates: int
    most: int


def participation(record: Record) -> Participation:
    """Counts participation from a run's record."""
    # Side information alone is no update.
    sent = record.traffic.updates_up > record.side.updates_up
    times = np.bincount(record.client_id[sent].reshape(-1), minlength=1)
    # Rounds with an aggregate: FedSL sends updates at the end of a period only.
    return Participation(int(sent.any(axis=1).sum()), int(times.max()))


class Epsilon(NamedTuple):
    """Epsilon of client-level differential privacy, at one delta.

    Attributes:
      drawn: against an adversary that sees every model but not the cohorts. Cohorts of
        K of the N clients are sampled without replacement, as in the run; neighbours
        replace one client's update by any other, also that of a client without data.
      poisson: the same under Poisson sampling with probability K / N, where neighbours
        add or remove one client's update. Cohorts are not sampled like this; it is the
        usual figure, to compare with others.
      known: against an adversary that sees every message and its sender, such as the
        server; for the client that participated most often. Neighbours make its update
        nothing, or nothing an update.
    """

    drawn: float
    poisson: float
    known: float


def _composed(
    event: Any, neighbours: Any, times: int, *, orders: Sequence[float], delta: float
) -> float:
    """Epsilon of an event that happens so many times."""
    from dp_accounting.rdp import RdpAccountant

    # Nothing was released.
    if times == 0:
        return 0.0
    accountant = RdpAccountant(orders, neighbours)
    log = logging.getLogger("absl")
    log.addFilter(_is_news)
    try:
        return float(accountant.compose(event, times).get_epsilon(delta))
    finally:
        log.removeFilter(_is_news)


def epsilon(
    noise_multiplier: float,
    took_part: Participation,
    *,
    cohort_size: int,
    num_clients: int,
    delta: float,
) -> Epsilon:
    """Returns the epsilon of clipped updates under the Gaussian mechanism.

    `drawn` composes the bound of Wang, Balle and Kasiviswanathan (2019) for sampling
    without replacement, or is that of all the client's messages if this is less, for
    the same neighbours. `poisson` is the bound of
    Mironov, Talwar and Zhang (2019).

    Args:
      noise_multiplier: z >= 0.
      took_part: counts of participation.
      cohort_size: K.
      num_clients: N.
      delta: in (0, 1), well below 1 / N.

    Returns:
      An `Epsilon`, infinite without noise.

    Raises:
      ValueError: if `dp-accounting` is not installed.
    """
    require("dp_accounting", "epsilons need")
    import dp_accounting as dp

    if noise_multiplier == 0:
        return Epsilon(np.inf, np.inf, np.inf)
    relation = dp.NeighboringRelation

    gaussian, joined = dp.GaussianDpEvent(noise_multiplier), relation.ADD_OR_REMOVE_ONE

    def sampled(event, neighbours, orders) -> float:
        times = took_part.aggregates
        return _composed(event, neighbours, times, orders=orders, delta=delta)

    def messages(event, neighbours) -> float:
        # Not sampled: as for an adversary who knows who participated.
        most = took_part.most
        return _composed(event, neighbours, most, orders=ORDERS, delta=delta)

    # Two clipped updates differ by up to 2 C: half the noise multiplier.
    half = dp.GaussianDpEvent(noise_multiplier / 2)
    replaced = dp.SampledWithoutReplacementDpEvent(num_clients, cohort_size, half)
    by_chance = dp.PoissonSampledDpEvent(cohort_size / num_clients, gaussian)
    either = relation.REPLACE_ONE
    return Epsilon(
        # Cohorts do not depend on data, so knowing them can only help the adversary.
        drawn=min(messages(half, either), sampled(replaced, either, WHOLE_ORDERS)),
        poisson=sampled(by_chance, joined, ORDERS),
        known=messages(gaussian, joined),
    )
