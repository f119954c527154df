"""Seconds and joules of rounds over a channel, from the record of a run.

Everything is computed after the run, from counts: another channel needs no training.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sl.analysis.channel import Channel, gains, shared_rate, watts
from fedjax_sl.analysis.phases import (
    BACKWARD,
    Sequential,
    clock_of,
    needs_of,
    phases_of,
    rates_of,
)
from fedjax_sl.checks import check_choice
from fedjax_sl.traffic import Record


class RoundCosts(NamedTuple):
    """What T rounds took.

    Attributes:
      up: `[T]` s, until the last activations of a round are at the server.
      server: `[T]` s, of the server's passes.
      down: `[T]` s, until the last client has its gradient and has used it.
      updates: `[T]` s, until the last update is at the server.
      models: `[T]` s, until the last client has its model.
      seconds: `[T]` s, all of them, or the deadline.
      joules: `[T, K]` J, of each device: computing, and sending.
      late: `[T, K]` bool, who was not done at the deadline.
    """

    up: np.ndarray
    server: np.ndarray
    down: np.ndarray
    updates: np.ndarray
    models: np.ndarray
    seconds: np.ndarray
    joules: np.ndarray
    late: np.ndarray


def round_costs(
    channel: Channel,
    record: Record,
    *,
    first_round: int = 0,
    sequential: Sequential = "nothing",
) -> RoundCosts:
    """Seconds and joules of each round (reconstructed, after AdaptSFL).

    `T = max_k(T_k^F + Z_U / r_k^U) + T_s + max_k(Z_D / r_k^D + T_k^B)
    + max_k Z_A / r_k^U + max_k Z_M / r^bc`: models go down over the whole band,
    everything else over each client's share. Devices take `kappa f^2` joules a cycle
    and their power while they send; receiving and the server are not charged.

    What is done in turn adds up instead, over the whole band. With "exchanges" that is
    activations and gradients, `max_k T_k^F + sum_k Z_U / r^U` and
    `sum_k Z_D / r^D + max_k T_k^B`: clients compute at the same time, with models of
    their own, and the server takes one after another. With "visits" it is everything.

    Args:
      channel: the cell.
      record: what happened.
      first_round: number of the first of these rounds, for the fading.
      sequential: what clients do one after another.

    Returns:
      `RoundCosts`. A deadline ends rounds, and marks stragglers, who wait for the turns
      of all others: nobody knows the order beforehand. The run's accuracy is that with
      everyone's updates.
    """
    check_choice("sequential", sequential, Sequential)
    active = record.client_macs > 0
    gain = gains(channel, record.client_id, first_round)
    rates = rates_of(channel, gain, lambda p: shared_rate(channel, p, gain, active))
    phases = phases_of(channel, record, rates, sequential)
    forward, sent, served, returned, backward, updated, loaded = phases
    last = np.sum if sequential == "visits" else np.max
    if sequential == "exchanges":
        up = forward.max(axis=1) + sent.sum(axis=1)
        down = returned.sum(axis=1) + backward.max(axis=1)
    else:
        up, down = last(forward + sent, axis=1), last(returned + backward, axis=1)
    server = served.sum(axis=1)
    updates, models = last(updated, axis=1), last(loaded, axis=1)
    own, turn = needs_of(phases, server[:, None], sequential)
    deadline = np.inf if channel.deadline_s is None else channel.deadline_s
    clock = clock_of(channel, record)
    cycles = record.client_macs / channel.macs_per_cycle
    computing = (1 + BACKWARD) * cycles * channel.capacitance * clock**2
    return RoundCosts(
        up=up,
        server=server,
        down=down,
        updates=updates,
        models=models,
        seconds=np.minimum(up + down + updates + models + server, deadline),
        joules=computing + watts(channel.device_power_dbm) * (sent + updated),
        late=active & (own + turn.sum(axis=1, keepdims=True) > deadline),
    )
