"""What rounds of FedSL will take, from its settings alone, before anything is trained.

The counts are those of the method's own code, at a model that has the shapes and the
masks of the settings; what is drawn at random counts as its expectation.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import RoundMetrics
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import spent
from fedjax_sl.compression.pruning import magnitude_scores
from fedjax_sl.config_base import optimizer_named
from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.bit_allocation import Widths
from fedjax_sl.fedsl.compute import work
from fedjax_sl.fedsl.config import settings_of
from fedjax_sl.fedsl.period_start import masks
from fedjax_sl.fedsl.state import Places, Setup
from fedjax_sl.fedsl.step import Crossed
from fedjax_sl.fedsl.traffic import links
from fedjax_sl.models.split import SplitModel
from fedjax_sl.traffic import Record, record_of


WINDOW = 60
"""Rounds that are looked at one by one; more of them take as long on average."""

KINDS = np.array([[False, False], [False, True], [True, False], [True, True]])
"""Whether a period starts with a round, and whether it ends with it."""


@partial(jax.jit, static_argnames=("model", "batch_size"))
def _kinds(model: SplitModel, config: FedSLConfig, batch_size: int) -> RoundMetrics:
    cohort = config.cohort_size
    usual = optimizer_named(config.optimizer, config.momentum)
    setup = Setup(model, config, usual, usual, clients.scan)
    settings = settings_of(config, jnp.arange(cohort))
    state = fedsl(model, config).init(jax.random.key(0))
    scores = magnitude_scores(jax.tree.map(lambda x: x[0], state.client["params"]))
    mask = masks(config, scores, settings.prune_ratio[0])
    state = state._replace(mask=broadcast(mask, cohort))
    shape = (cohort, batch_size)
    places = Places(jnp.zeros(shape, jnp.int32), jnp.ones(shape))
    numbers = batch_size * math.prod(model.cut_shape()) * (1 - settings.dropout_rate)
    none = jnp.zeros(cohort, jnp.int32)
    message = Widths(settings.upload_bits, none)
    sent = jnp.round(numbers).astype(jnp.int32)
    crossed = Crossed(none, sent, message, none == 0)

    def one(kind):
        starts, ends = kind
        *counts, kept = links(
            setup, state, places, settings, crossed, message, starts=starts, ends=ends
        )
        done = work(setup, state, places, settings, starts)
        ids = jnp.arange(cohort)
        return RoundMetrics(ids, none, kept, none > 0, done, *counts)

    return jax.vmap(one)(jnp.asarray(KINDS))


def kinds_of_round(model: SplitModel, config: FedSLConfig, batch_size: int) -> Record:
    """What each kind of round computes and sends, every batch being full.

    Args:
      model: the network, cut.
      config: the settings, the same for all clients; the ratio is that of every round,
        and updates take all the bits allowed.
      batch_size: B.

    Returns:
      A record of four rounds, in the order of `KINDS`.
    """
    return record_of(jax.device_get(_kinds(model, config, batch_size)))


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
      kinds: as from `kinds_of_round`.
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
    took = spent(channel, record._replace(client_id=ids))
    factor = rounds / seen
    return Cost(float(took.seconds.sum()) * factor, float(took.joules.sum()) * factor)
