"""How long each client takes for each phase of a round, by itself or in turn."""

from typing import Literal, NamedTuple

import numpy as np

from fedjax_sl.analysis.channel import Channel, gains, rate, watts
from fedjax_sl.checks import check_choice
from fedjax_sl.traffic import Record


BACKWARD = 2
"""A backward pass takes so many times the forward pass."""

ROUNDING = 1e-6
"""Of the float32 numbers that work is counted in."""

Sequential = Literal["nothing", "exchanges", "visits"]
"""What clients do one after another, and with the whole band to themselves: nothing;
what they exchange with a server that steps after each of them (SplitFed version 2);
or all of their visits, the model handed on among it (a relay)."""


def _over(bits: np.ndarray, bits_per_second: np.ndarray) -> np.ndarray:
    """Seconds; nothing takes no time, whatever the rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bits > 0, bits / bits_per_second, 0.0)


class Phases(NamedTuple):
    """Seconds of each client by itself, `[T, K]`."""

    forward: np.ndarray
    sent: np.ndarray
    served: np.ndarray
    returned: np.ndarray
    backward: np.ndarray
    updated: np.ndarray
    loaded: np.ndarray


class Rates(NamedTuple):
    """Bits per second of each client, `[T, K]`: what is shared, and the whole band."""

    up: np.ndarray
    down: np.ndarray
    all_up: np.ndarray
    all_down: np.ndarray


def rates_of(channel: Channel, gain: np.ndarray, shared) -> Rates:
    """With `shared(power)` where all send at once."""
    powers = watts(channel.device_power_dbm), watts(channel.server_power_dbm)
    noise = watts(channel.noise_dbm_per_hz)
    whole = (rate(channel.bandwidth_hz, power, gain, noise) for power in powers)
    return Rates(*map(shared, powers), *whole)


def phases_of(
    channel: Channel, record: Record, rates: Rates, sequential: Sequential
) -> Phases:
    """Phase by phase: whoever has the band to itself sends over all of it."""
    check_choice("sequential", sequential, Sequential)
    bits, clock = record.traffic, clock_of(channel, record)
    up, down = rates[:2] if sequential == "nothing" else rates[2:]
    update = rates.all_up if sequential == "visits" else rates.up
    forward = record.client_macs / channel.macs_per_cycle / clock
    return Phases(
        forward=forward,
        sent=_over(bits.activations_up + bits.labels_up, up),
        served=(1 + BACKWARD) * record.server_macs / channel.server_macs_per_second,
        returned=_over(bits.gradients_down, down),
        backward=BACKWARD * forward,
        updated=_over(bits.updates_up, update),
        loaded=_over(bits.model_down, rates.all_down),
    )


def clock_of(channel: Channel, record: Record) -> np.ndarray:
    """Hertz of each client, by its class, `[T, K]`."""
    return np.asarray(channel.clock_hz)[record.client_id % len(channel.clock_hz)]


class Needs(NamedTuple):
    """Seconds that a client needs until it is done with a round, `[T, N]` each.

    Attributes:
      own: while others do the same, and while the server serves all of them.
      turn: while nobody else can go on; 0 where nothing is done in turn.
    """

    own: np.ndarray
    turn: np.ndarray


def needs_of(phases: Phases, server: np.ndarray, sequential: Sequential) -> Needs:
    """From its phases, and the server's seconds for all clients, `[T, 1]`."""
    check_choice("sequential", sequential, Sequential)
    exchange = phases.sent + phases.returned
    rest = phases.forward + phases.backward + phases.updated + phases.loaded
    if sequential == "visits":
        return Needs(server + 0 * rest, exchange + rest)
    if sequential == "exchanges":
        return Needs(server + rest, exchange)
    return Needs(server + rest + exchange, 0 * rest)


def needs(
    channel: Channel,
    most: Record,
    cohort_size: int,
    first_round: int = 0,
    *,
    sequential: Sequential = "nothing",
) -> Needs:
    """What a client needs at the most, whoever else is in its round.

    Args:
      channel: the cell, its band in equal shares.
      most: the most that every client computes and sends in each round, `[T, N]`.
      cohort_size: K, who share the band if all of them take part.
      first_round: number of the first of these rounds, for the fading.
      sequential: what clients do one after another.

    Returns:
      Its `Needs`, the server's time for K clients in its own.
    """
    check_choice("sequential", sequential, Sequential)
    gain = gains(channel, most.client_id, first_round)
    noise, share = watts(channel.noise_dbm_per_hz), channel.bandwidth_hz / cohort_size
    rates = rates_of(channel, gain, lambda p: rate(share, p, gain, noise))
    phases = phases_of(channel, most, rates, sequential)
    server = cohort_size * phases.served.max(axis=1, keepdims=True)
    return Needs(*(x * (1 + ROUNDING) for x in needs_of(phases, server, sequential)))


def done_by(deadline_s: float, found: Needs, cohort_size: int) -> np.ndarray:
    """Who will be done by a deadline, whoever else of them is in the same round.

    Each waits for K - 1 others, the longest turn of whom may be any that is left.

    Args:
      deadline_s: seconds.
      found: what clients need.
      cohort_size: K.

    Returns:
      `[T, N]` bool.
    """
    own, turn = found
    done = own + cohort_size * turn <= deadline_s
    longest = np.where(done, turn, 0.0).max(axis=1, keepdims=True)
    return done & (own + cohort_size * longest <= deadline_s)
