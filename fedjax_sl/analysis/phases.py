"""Time of each client for each phase of a round, parallel or sequential."""

from typing import Literal, NamedTuple, get_args

import numpy as np

from fedjax_sl.analysis.channel import Channel, Direction, gains, link_rate
from fedjax_sl.checks import check_choice
from fedjax_sl.traffic import Record


BACKWARD = 2
"""Time of a backward pass over that of a forward pass."""

ROUNDING = 1e-6
"""Relative rounding error of MACs, which are counted in float32."""

Sequential = Literal["nothing", "exchanges", "visits"]
"""Phases that clients do one after another, each with the whole band: none; exchanges
with a server that steps once per client (SplitFed v2); or whole visits, with the
model passed from client to client (vanilla split learning)."""


def _over(bits: np.ndarray, bits_per_second: np.ndarray) -> np.ndarray:
    """Seconds to send bits; 0 if there are none, even at rate 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bits > 0, bits / bits_per_second, 0.0)


class Phases(NamedTuple):
    """Seconds of each client in each phase, `[T, K]` each.

    Between `served` and `returned`, a client with a second cut receives the server's
    features, passes them through its tail and back, and sends their gradients.
    """

    forward: np.ndarray
    sent: np.ndarray
    served: np.ndarray
    answered: np.ndarray
    tail: np.ndarray
    replied: np.ndarray
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
    """Returns the rates; `shared("up")` and `"down"` gives those over the shares."""
    ways, hertz = get_args(Direction), channel.bandwidth_hz
    whole = (link_rate(channel, hertz, gain, way) for way in ways)
    return Rates(*map(shared, ways), *whole)


def phases_of(
    channel: Channel, record: Record, rates: Rates, sequential: Sequential
) -> Phases:
    """Returns the seconds of each phase; a sequential phase uses the whole band."""
    check_choice("sequential", sequential, Sequential)
    bits, clock = record.traffic, clock_of(channel, record)
    up, down = rates[:2] if sequential == "nothing" else rates[2:]
    # In exchanges only the cut is sequential: all send their updates at once.
    update = rates.all_up if sequential == "visits" else rates.up
    passes = channel.macs_per_cycle * clock
    forward = (record.client_macs - record.tail_macs) / passes
    return Phases(
        forward=forward,
        sent=_over(bits.activations_up + bits.labels_up, up),
        served=(1 + BACKWARD) * record.server_macs / channel.server_macs_per_second,
        answered=_over(bits.features_down, down),
        tail=(1 + BACKWARD) * record.tail_macs / passes,
        replied=_over(bits.gradients_up, up),
        returned=_over(bits.gradients_down, down),
        backward=BACKWARD * forward,
        updated=_over(bits.updates_up, update),
        # A broadcast needs no shares, whatever is sequential.
        loaded=_over(bits.model_down, rates.all_down),
    )


def clock_of(channel: Channel, record: Record) -> np.ndarray:
    """Clock frequency of each client by its device class, `[T, K]` Hz."""
    # As `config_base.per_client`, so that a client is of one class in both.
    return np.asarray(channel.clock_hz)[record.client_id % len(channel.clock_hz)]


class Steps(NamedTuple):
    """Seconds of each client in the steps of a round, between barriers.

    The steps are, in this order: loading the model; the forward pass and sending
    activations; what is behind a second cut; receiving the gradient and the backward
    pass; sending the update.

    Attributes:
      together: `[5, T, K]`, of what clients do at the same time.
      turn: `[5, T, K]`, of what a client does while all others wait.
    """

    together: np.ndarray
    turn: np.ndarray


def steps_of(phases: Phases, sequential: Sequential) -> Steps:
    """Sorts the phases by step, the server's apart."""
    check_choice("sequential", sequential, Sequential)
    idle = np.zeros_like(phases.forward + phases.sent)
    behind = phases.answered + phases.tail + phases.replied
    computing = np.stack([idle, phases.forward, idle, phases.backward, idle])
    # The server waits for what is behind the second cut, computation included.
    at_cut = np.stack([idle, phases.sent, behind, phases.returned, idle])
    moving = np.stack([phases.loaded, idle, idle, idle, phases.updated])
    if sequential == "visits":
        everything = computing + at_cut + moving
        return Steps(np.zeros_like(everything), everything)
    if sequential == "exchanges":
        return Steps(computing + moving, at_cut)
    return Steps(computing + at_cut + moving, np.zeros_like(at_cut))


def meeting(record: Record) -> np.ndarray:
    """Returns whether clients meet at the server within a round, `[T, 1]` bool.

    A client that exchanges nothing over a cut goes its own way, from its model to its
    update.
    """
    bits = record.traffic
    at_cut = bits.activations_up + bits.labels_up + bits.gradients_down
    meets = np.logical_or(at_cut > 0, record.server_macs > 0)
    return np.asarray(meets.any(axis=1, keepdims=True))


class Needs(NamedTuple):
    """Seconds that clients need to finish a round, at most.

    Attributes:
      steps: `[5, T, N]`, in parallel with other clients; the next step begins when all
        have come to the end of the one before.
      turn: `[T, N]`, while all other clients wait; 0 if nothing is sequential.
      server: `[T, 1]`, of the server for all clients.
    """

    steps: np.ndarray
    turn: np.ndarray
    server: np.ndarray

    def alone(self, cohort_size: int) -> np.ndarray:
        """Seconds of a round whose whole cohort is like this client, `[T, N]`."""
        return self.server + self.steps.sum(axis=0) + cohort_size * self.turn


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
      `Needs`; `server` is its time for K clients.
    """
    check_choice("sequential", sequential, Sequential)
    gain = gains(channel, most.client_id, first_round)
    # As if nobody were absent: an absent client leaves the others more of the band.
    share = channel.bandwidth_hz / cohort_size
    rates = rates_of(channel, gain, lambda way: link_rate(channel, share, gain, way))
    phases = phases_of(channel, most, rates, sequential)
    together, turn = steps_of(phases, sequential)
    # Without a barrier between them all steps are one.
    own = together.sum(axis=0, keepdims=True)
    whole = np.concatenate([own, np.zeros_like(together[1:])])
    steps = np.where(meeting(most), together, whole)
    # The rest of the cohort is unknown: K times the slowest pass bounds its time.
    server = cohort_size * phases.served.max(axis=1, keepdims=True)
    found = Needs(steps, turn.sum(axis=0), server)
    # Rounded up, so that a client that is admitted is not late in the end.
    return Needs(*(x * (1 + ROUNDING) for x in found))


def done_by(
    deadline_s: float, found: Needs, cohort_size: int, *, period: int = 1
) -> np.ndarray:
    """Returns clients of which no cohort is late, whoever they wait for in it.

    Clients are admitted by the time that each needs on its own, for as long as the
    slowest in every step, together, would be in time. A longer deadline admits more.

    Args:
      deadline_s: seconds.
      found: needs of the clients.
      cohort_size: K.
      period: rounds for which a client is admitted, a divisor of T.

    Returns:
      `[T, N]` bool.
    """
    alone = found.alone(cohort_size)
    grouped = alone.reshape(-1, period, alone.shape[1])
    # By the slowest round of a period, all of which a client is admitted to.
    order = np.argsort(grouped.max(axis=1), axis=1, kind="stable")
    order = np.repeat(order, period, axis=0)

    def slowest(seconds: np.ndarray) -> np.ndarray:
        """Of each client and those that are admitted before it."""
        ordered = np.take_along_axis(seconds, order, axis=1)
        return np.maximum.accumulate(ordered, axis=1)

    own = found.steps.sum(axis=0)
    # Each step may have a slowest client of its own, if there are as many.
    apart = sum(map(slowest, found.steps))
    waited = np.minimum(apart, cohort_size * slowest(own))
    needed = found.server + waited + cohort_size * slowest(found.turn)
    done = (needed <= deadline_s).reshape(grouped.shape).all(axis=1)
    admitted = np.empty(order.shape, bool)
    np.put_along_axis(admitted, order, np.repeat(done, period, axis=0), axis=1)
    return admitted
