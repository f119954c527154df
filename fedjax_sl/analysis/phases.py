"""Time of each client for each phase of a round, parallel or sequential."""

from typing import Literal, NamedTuple

import numpy as np

from fedjax_sl.analysis.channel import Channel, gains, rate, watts
from fedjax_sl.checks import check_choice
from fedjax_sl.traffic import Record


BACKWARD = 2
"""Time of a backward pass over that of a forward pass."""

ROUNDING = 1e-6
"""Relative rounding error of MACs, which are counted in float32."""

Sequential = Literal["nothing", "exchanges", "visits"]
"""Phases that clients do one after another, each with the whole band: none; exchanges
with a server that steps once per client (SplitFed version 2); or whole visits, with the
model passed from client to client (vanilla split learning)."""


def _over(bits: np.ndarray, bits_per_second: np.ndarray) -> np.ndarray:
    """Seconds to send bits; 0 if there are none, even at rate 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bits > 0, bits / bits_per_second, 0.0)


class Phases(NamedTuple):
    """Seconds of each client in each phase, `[T, K]` each."""

    forward: np.ndarray
    sent: np.ndarray
    served: np.ndarray
    returned: np.ndarray
    backward: np.ndarray
    updated: np.ndarray
    loaded: np.ndarray


class Rates(NamedTuple):
    """Rates of each client over its share and over the whole band, `[T, K]` bit/s."""

    up: np.ndarray
    down: np.ndarray
    all_up: np.ndarray
    all_down: np.ndarray


def rates_of(channel: Channel, gain: np.ndarray, shared) -> Rates:
    """Returns the rates; `shared(power)` gives those over each client's share."""
    powers = watts(channel.device_power_dbm), watts(channel.server_power_dbm)
    noise = watts(channel.noise_dbm_per_hz)
    whole = (rate(channel.bandwidth_hz, power, gain, noise) for power in powers)
    return Rates(*map(shared, powers), *whole)


def phases_of(
    channel: Channel, record: Record, rates: Rates, sequential: Sequential
) -> Phases:
    """Returns the seconds of each phase; a sequential phase uses the whole band."""
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
    """Clock frequency of each client by its device class, `[T, K]` Hz."""
    return np.asarray(channel.clock_hz)[record.client_id % len(channel.clock_hz)]


class Needs(NamedTuple):
    """Seconds that a client needs to finish a round, `[T, N]` each.

    Attributes:
      own: in parallel with other clients, the server's time for all included.
      turn: while all other clients wait; 0 if nothing is sequential.
    """

    own: np.ndarray
    turn: np.ndarray


def needs_of(phases: Phases, server: np.ndarray, sequential: Sequential) -> Needs:
    """Sums up the phases; `server` holds its seconds for all clients, `[T, 1]`."""
    check_choice("sequential", sequential, Sequential)
    exchange = phases.sent + phases.returned
    rest = phases.forward + phases.backward + phases.updated + phases.loaded
    if sequential == "visits":
        # Adding 0 * rest gives the shape `[T, N]`.
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
    """Bounds the time that a client needs, for any cohort it may be in.

    Args:
      channel: the cell, its band in equal shares.
      most: upper bound of the work and traffic of every client in each round, `[T, N]`.
      cohort_size: K, clients that share the band.
      first_round: number of the first of these rounds, for the fading.
      sequential: phases that clients do one after another.

    Returns:
      `Needs`; `own` includes the server's time for K clients.
    """
    check_choice("sequential", sequential, Sequential)
    gain = gains(channel, most.client_id, first_round)
    noise, share = watts(channel.noise_dbm_per_hz), channel.bandwidth_hz / cohort_size
    rates = rates_of(channel, gain, lambda p: rate(share, p, gain, noise))
    phases = phases_of(channel, most, rates, sequential)
    # The rest of the cohort is unknown: K times the slowest pass bounds its time.
    server = cohort_size * phases.served.max(axis=1, keepdims=True)
    # Rounded up, so that a client that is admitted is not late in the end.
    return Needs(*(x * (1 + ROUNDING) for x in needs_of(phases, server, sequential)))


def done_by(deadline_s: float, found: Needs, cohort_size: int) -> np.ndarray:
    """Returns which clients meet a deadline in any cohort of such clients.

    Args:
      deadline_s: seconds.
      found: needs of the clients.
      cohort_size: K.

    Returns:
      `[T, N]` bool.
    """
    own, turn = found
    done = own + cohort_size * turn <= deadline_s
    # A client may wait for K - 1 others, and for the longest turn among those left.
    longest = np.where(done, turn, 0.0).max(axis=1, keepdims=True)
    return done & (own + cohort_size * longest <= deadline_s)
