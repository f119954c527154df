"""What differential privacy a run's clients had, from its record and never inside it.

Rounds are composed by Rényi differential privacy (Mironov, 2017) with Google's
`dp-accounting`, an extra: `pip install 'fedjax-sl[privacy]'`.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sl.errors import InputError
from fedjax_sl.traffic import Record


EXACT_ORDERS = (1.1, 1.25, 1.5, 1.75, *range(2, 65), 128, 256, 512, 1024)
SAMPLED_ORDERS = tuple(a for a in EXACT_ORDERS if a == int(a))
"""Rényi orders; the closed forms with sampling are for integers."""


class Participation(NamedTuple):
    """How often clients' updates were asked for.

    Attributes:
      aggregates: that were made of the updates of a cohort.
      most: that any one client had a part in, at most.
    """

    aggregates: int
    most: int


def participation(record: Record) -> Participation:
    """Counted from updates, of which more is sent than what goes beside them."""
    sent = record.traffic.updates_up > record.side.updates_up
    times = np.bincount(record.client_id[sent].reshape(-1), minlength=1)
    return Participation(int(sent.any(axis=1).sum()), int(times.max()))


class Epsilon(NamedTuple):
    """epsilon of client-level differential privacy, at one delta.

    Attributes:
      drawn: towards whoever sees every model, but is not told which K of the N clients
        were drawn each time: drawn without replacement, as here; of one client's update
        or any other in its place, that of a client without data among them.
      poisson: the same as it is usually quoted: as if each client took part by itself
        with probability K / N, of one client's update or nothing. It is not what was
        done, and is there to compare with others' figures.
      known: towards whoever sees every message and knows whose it is, such as the
        server: of the client that took part most often.
    """

    drawn: float
    poisson: float
    known: float


def epsilon(
    noise_multiplier: float,
    took_part: Participation,
    *,
    cohort_size: int,
    num_clients: int,
    delta: float,
) -> Epsilon:
    """Epsilon of updates that were clipped and had Gaussian noise added.

    `drawn` composes the bound of Wang, Balle and Kasiviswanathan (2019) for sampling
    without replacement, at half the noise multiplier, for two clipped updates are up to
    2 C apart; or, where that is less, is `known`, for who took part was drawn without
    looking at data. `poisson` is that of Mironov, Talwar and Zhang (2019).

    Args:
      noise_multiplier: z >= 0.
      took_part: how often.
      cohort_size: K.
      num_clients: N.
      delta: in (0, 1), well below 1 / N.

    Returns:
      An `Epsilon`, infinite where there was no noise.

    Raises:
      ValueError: if `dp-accounting` is not installed.
    """
    try:
        import dp_accounting as dp
        from dp_accounting.rdp import RdpAccountant
    except ImportError as missing:
        raise InputError(
            "privacy is accounted for by dp-accounting: expected it to be installed "
            "(pip install 'fedjax-sl[privacy]')."
        ) from missing
    if noise_multiplier == 0:
        return Epsilon(np.inf, np.inf, np.inf)
    relation = dp.NeighboringRelation

    def composed(event, neighbours, times, orders) -> float:
        if times == 0:
            return 0.0
        accountant = RdpAccountant(orders, neighbours)
        return float(accountant.compose(event, times).get_epsilon(delta))

    def unsampled(times) -> float:
        event = dp.GaussianDpEvent(noise_multiplier)
        return composed(event, relation.ADD_OR_REMOVE_ONE, times, EXACT_ORDERS)

    def sampled(event, neighbours) -> float:
        return composed(event, neighbours, took_part.aggregates, SAMPLED_ORDERS)

    replaced = dp.SampledWithoutReplacementDpEvent(
        num_clients, cohort_size, dp.GaussianDpEvent(noise_multiplier / 2)
    )
    by_chance = dp.PoissonSampledDpEvent(
        cohort_size / num_clients, dp.GaussianDpEvent(noise_multiplier)
    )
    known = unsampled(took_part.most)
    return Epsilon(
        drawn=min(known, sampled(replaced, relation.REPLACE_ONE)),
        poisson=sampled(by_chance, relation.ADD_OR_REMOVE_ONE),
        known=known,
    )
