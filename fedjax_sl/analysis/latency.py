"""Latency and energy of rounds over a channel, from the record of a run.

Both follow from counts after the run, so another channel needs no new training.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sl.analysis.channel import Channel, gains, shared_rate, watts
from fedjax_sl.analysis.phases import (
    BACKWARD,
    Sequential,
    Steps,
    clock_of,
    meeting,
    phases_of,
    rates_of,
    steps_of,
)
from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.traffic import Record


class RoundCosts(NamedTuple):
    """Latency and energy of T rounds.

    Phases are in the order models, up, server, tail, down, updates, and end at the
    deadline.

    Attributes:
      up: `[T]` s, until the server has the last activations of a round.
      server: `[T]` s, of the server's passes.
      tail: `[T]` s, until the server has the last gradient at a second cut.
      down: `[T]` s, until the last client has received and applied its gradient.
      updates: `[T]` s, until the server has the last update.
      models: `[T]` s, until the last client has its model.
      seconds: `[T]` s, their sum, at most the deadline.
      joules: `[T, K]` J, of each device for computing and sending.
      late: `[T, K]` bool, stragglers: clients not done at the deadline, those included
        that had to wait for others.
    """

    up: np.ndarray
    server: np.ndarray
    tail: np.ndarray
    down: np.ndarray
    updates: np.ndarray
    models: np.ndarray
    seconds: np.ndarray
    joules: np.ndarray
    late: np.ndarray


class _Course(NamedTuple):
    """Seconds of rounds without a deadline.

    Attributes:
      steps: `[5, T]` s, of each step.
      done: `[T, K]` s, from the start of the round until a client has done its last
        step; 0 for clients that are absent.
    """

    steps: np.ndarray
    done: np.ndarray


def _course(
    steps: Steps, server: np.ndarray, meet: np.ndarray, active: np.ndarray
) -> _Course:
    """Follows clients from step to step, whether they meet at the server or not."""
    together, serial = steps.together, steps.turn.sum(axis=2)
    # Where they do not, a step ends when the last client has come to its end.
    ends = np.cumsum(together, axis=0).max(axis=2)
    # Two that never end are no further apart.
    with np.errstate(invalid="ignore"):
        free = np.diff(ends, axis=0, prepend=0)
    lengths = np.where(meet[:, 0], together.max(axis=2), free) + serial
    before, updating = together.max(axis=2, keepdims=True), together[-1]
    # Only who sends an update waits for the slowest backward pass before it.
    last = np.where(updating > 0, before[3] + updating, together[3])
    # Over a cut everyone waits for all models, and for all that come to the server.
    waiting = before[0] + before[1] + before[2]
    own = np.where(meet, waiting + last, together.sum(axis=0))
    # The order of turns is not known beforehand: each client waits for all others.
    done = own + (serial.sum(axis=0) + server)[:, None]
    return _Course(lengths, np.where(active, done, 0.0))


def _until(deadline: float, lengths: np.ndarray) -> np.ndarray:
    """Cuts phases, `[P, T]` in their order, so that they end at the deadline."""
    ends = np.cumsum(lengths, axis=0)
    begins = np.concatenate([np.zeros_like(ends[:1]), ends[:-1]])
    return np.clip(deadline - begins, 0, lengths)


def round_costs(
    channel: Channel,
    record: Record,
    *,
    first_round: int = 0,
    sequential: Sequential = "nothing",
    gain: np.ndarray | None = None,
) -> RoundCosts:
    """Returns latency and energy of each round (reconstructed, after AdaptSFL).

    `T = max_k(T_k^F + Z_U / r_k^U) + T_s + max_k(Z_D / r_k^D + T_k^B)
    + max_k Z_A / r_k^U + max_k Z_M / r^bc`: models are broadcast over the whole band,
    everything else uses each client's share. A second cut adds
    `max_k(Z_D' / r_k^D + 3 T_k^tail + Z_U' / r_k^U)` to what comes before `Z_D`. Where
    clients exchange nothing over a cut
    no one waits before the end, `T = max_k(Z_M / r^bc + T_k^F + T_k^B + Z_A / r_k^U)`.
    A device spends `kappa f^2` joules per cycle and its transmit power while it sends;
    receiving and the server are free.

    Sequential phases add up instead and use the whole band. With "exchanges" these are
    activations and gradients, `max_k T_k^F + sum_k Z_U / r^U` and
    `sum_k Z_D / r^D + max_k T_k^B`: clients compute in parallel, each with its own
    model, and the server steps once per client. With "visits" everything is sequential.

    Args:
      channel: the cell.
      record: counts of the rounds.
      first_round: number of the first of these rounds, for the fading.
      sequential: phases that clients do one after another.
      gain: `[T, K]`, channel gains of these clients in these rounds, such as measured
        ones, in place of the channel's distances and fading.

    Returns:
      `RoundCosts`. A deadline shortens rounds and marks stragglers, but does not change
      the run's accuracy, which includes every update.

    Raises:
      ValueError: if gains are not one for each client of each round, or not positive.
    """
    check_choice("sequential", sequential, Sequential)
    # Who drops out does nothing at all; a half that is pruned as a whole still sends.
    bits = record.traffic
    active = (record.client_macs > 0) | (bits.uplink + bits.downlink > 0)
    if gain is None:
        gain = gains(channel, record.client_id, first_round)
    elif gain.shape != record.client_id.shape or not (gain > 0).all():
        raise InputError(
            f"gain of shape {gain.shape}: expected numbers > 0 of shape "
            f"{record.client_id.shape}, one for each client of each round."
        )
    rates = rates_of(channel, gain, lambda way: shared_rate(channel, gain, active, way))
    phases = phases_of(channel, record, rates, sequential)
    # One server works through the batches of all clients.
    server = phases.served.sum(axis=1)
    course = _course(steps_of(phases, sequential), server, meeting(record), active)
    models, up, tail, down, updates = course.steps
    lengths = np.stack([models, up, server, tail, down, updates])
    deadline = channel.deadline_s or np.inf
    if channel.deadline_s is not None:
        lengths = _until(deadline, lengths)
    models, up, server, tail, down, updates = lengths
    clock = clock_of(channel, record)
    cycles = record.client_macs / channel.macs_per_cycle
    computing = (1 + BACKWARD) * cycles * channel.capacitance * clock**2
    return RoundCosts(
        up=up,
        server=server,
        tail=tail,
        down=down,
        updates=updates,
        models=models,
        seconds=np.minimum(course.done.max(axis=1), deadline),
        # Not cut at the deadline: the run used every update, late ones included.
        joules=computing
        + watts(channel.device_power_dbm)
        * (phases.sent + phases.replied + phases.updated),
        late=active & (course.done > deadline),
    )
