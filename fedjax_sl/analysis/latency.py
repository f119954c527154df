"""Seconds and joules of rounds over a channel, from the record of a run.

Everything is computed after the run, from counts: another channel needs no training.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sl.algorithm import RoundMetrics
from fedjax_sl.analysis.channel import Channel, gains, rate, shared_rate, watts
from fedjax_sl.analysis.traffic import Traffic, side_information, traffic


BACKWARD = 2
"""A backward pass takes so many times the forward pass."""

ROUNDING = 1e-6
"""Of the float32 numbers that work is counted in."""


class Record(NamedTuple):
    """What happened in T rounds of K clients.

    Attributes:
      client_id: `[T, K]`.
      traffic: bits, of all that crossed.
      side: those of them that are side information.
      client_macs: `[T, K]` multiplications of each client's forward passes.
      server_macs: `[T, K]` of the server's for it.
    """

    client_id: np.ndarray
    traffic: Traffic
    side: Traffic
    client_macs: np.ndarray
    server_macs: np.ndarray


def record_of(rounds: RoundMetrics) -> Record:
    """The record of rounds, metrics with leaves `[T, K]`."""
    return Record(
        client_id=np.asarray(rounds.client_id),
        traffic=traffic(rounds),
        side=side_information(rounds),
        client_macs=np.asarray(rounds.work.client, np.float64),
        server_macs=np.asarray(rounds.work.server, np.float64),
    )


def without_side(record: Record) -> Record:
    """The record of the same rounds, had side information taken no bits."""
    pairs = zip(record.traffic, record.side, strict=True)
    return record._replace(
        traffic=Traffic(*(bits - side for bits, side in pairs)),
        side=Traffic(*(0 * side for side in record.side)),
    )


class Spent(NamedTuple):
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


def _over(bits: np.ndarray, bits_per_second: np.ndarray) -> np.ndarray:
    """Seconds; nothing takes no time, whatever the rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bits > 0, bits / bits_per_second, 0.0)


class _Phases(NamedTuple):
    """Seconds of each client by itself, `[T, K]`."""

    reached: np.ndarray
    served: np.ndarray
    returned: np.ndarray
    updated: np.ndarray
    loaded: np.ndarray


def _phases(channel: Channel, record: Record, gain, up, down) -> _Phases:
    """Phase by phase, at these rates in bits per second."""
    bits = record.traffic
    server = watts(channel.server_power_dbm)
    noise = watts(channel.noise_dbm_per_hz)
    broadcast = rate(channel.bandwidth_hz, server, gain, noise)
    clock = _clock(channel, record)
    cycles = record.client_macs / channel.macs_per_cycle
    return _Phases(
        reached=cycles / clock + _over(bits.activations_up + bits.labels_up, up),
        served=(1 + BACKWARD) * record.server_macs / channel.server_macs_per_second,
        returned=_over(bits.gradients_down, down) + BACKWARD * cycles / clock,
        updated=_over(bits.updates_up, up),
        loaded=_over(bits.model_down, broadcast),
    )


def _clock(channel: Channel, record: Record) -> np.ndarray:
    return np.asarray(channel.clock_hz)[record.client_id % len(channel.clock_hz)]


def slowest(
    channel: Channel, most: Record, cohort_size: int, first_round: int = 0
) -> np.ndarray:
    """Seconds that a client takes at the most, whoever else is in its round.

    Args:
      channel: the cell, its band in equal shares.
      most: the most that every client computes and sends in each round, `[T, N]`.
      cohort_size: K, who share the band if all of them take part.
      first_round: number of the first of these rounds, for the fading.

    Returns:
      `[T, N]`, of its own phases and all of the server's.
    """
    gain = gains(channel, most.client_id, first_round)
    noise, share = watts(channel.noise_dbm_per_hz), channel.bandwidth_hz / cohort_size
    up, down = (
        rate(share, watts(power), gain, noise)
        for power in (channel.device_power_dbm, channel.server_power_dbm)
    )
    phases = _phases(channel, most, gain, up, down)
    server = cohort_size * phases.served.max(axis=1, keepdims=True)
    own = phases.reached + server + phases.returned + phases.updated + phases.loaded
    return own * (1 + ROUNDING)


def spent(
    channel: Channel, record: Record, *, first_round: int = 0, in_turn: bool = False
) -> Spent:
    """Seconds and joules of each round (reconstructed, after AdaptSFL).

    `T = max_k(T_k^F + Z_U / r_k^U) + T_s + max_k(Z_D / r_k^D + T_k^B)
    + max_k Z_A / r_k^U + max_k Z_M / r^bc`: models go down over the whole band,
    everything else over each client's share. Devices take `kappa f^2` joules a cycle
    and their power while they send; receiving and the server are not charged.

    Args:
      channel: the cell.
      record: what happened.
      first_round: number of the first of these rounds, for the fading.
      in_turn: clients go one after another, so that their times add up.

    Returns:
      A `Spent`. A deadline ends rounds, and marks who is late; the run's accuracy is
      that with everyone's updates.
    """
    bits = record.traffic
    active = record.client_macs > 0
    gain = gains(channel, record.client_id, first_round)
    device, server = watts(channel.device_power_dbm), watts(channel.server_power_dbm)
    up = shared_rate(channel, device, gain, active)
    down = shared_rate(channel, server, gain, active)
    reached, served, returned, updated, loaded = _phases(
        channel, record, gain, up, down
    )
    clock, cycles = _clock(channel, record), record.client_macs / channel.macs_per_cycle

    last = np.sum if in_turn else np.max
    spans = [last(part, axis=1) for part in (reached, returned, updated, loaded)]
    total = sum(spans) + served.sum(axis=1)
    own = reached + served.sum(axis=1, keepdims=True) + returned + updated + loaded
    deadline = np.inf if channel.deadline_s is None else channel.deadline_s
    sending = _over(bits.activations_up + bits.labels_up, up) + updated
    computing = (1 + BACKWARD) * cycles * channel.capacitance * clock**2
    return Spent(
        up=spans[0],
        server=served.sum(axis=1),
        down=spans[1],
        updates=spans[2],
        models=spans[3],
        seconds=np.minimum(total, deadline),
        joules=computing + device * sending,
        late=own > deadline,
    )
