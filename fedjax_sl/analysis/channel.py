"""A wireless cell: where devices stand, how fast they compute, what they can send.

The model is reconstructed from common practice in split learning over wireless links:
path loss 128.1 + 37.6 log10(d / km) dB, Rayleigh fading redrawn each round, OFDMA with
rates B log2(1 + P h / (B N_0)).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedjax_sl.checks import check_types
from fedjax_sl.errors import InputError


DISTANCE, FADING = range(2)
"""Purposes, beside the seed of random generators."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A cell with one server, and the devices in it."""

    bandwidth_hz: float = 10e6
    """B, of the uplink and of the downlink, > 0."""

    noise_dbm_per_hz: float = -174.0
    """N_0, density of the noise."""

    device_power_dbm: float = 23.0
    """P_k, that a device sends with."""

    server_power_dbm: float = 46.0
    """P_s, that the server sends with."""

    distance_m: tuple[float, float] = (50.0, 500.0)
    """Least and greatest distance of a device, each drawn uniformly once, > 0."""

    fading: bool = True
    """Rayleigh fading, redrawn for each device in each round."""

    share: Literal["equal", "rate"] = "equal"
    """How the band is shared: in equal parts, or in proportion to bits per hertz."""

    clock_hz: tuple[float, ...] = (1.0e9, 1.2e9, 1.4e9, 1.6e9)
    """f_k of the device classes, which clients take in turn, > 0."""

    macs_per_cycle: float = 1000.0
    """Multiplications with additions of a device in one cycle, > 0."""

    capacitance: float = 1e-27
    """kappa; a cycle takes kappa f^2 joules, >= 0."""

    server_macs_per_second: float = 2e13
    """f_s, > 0."""

    deadline_s: float | None = None
    """A round takes no longer than this, > 0; who is not done by then is late."""

    channel_seed: int = 0
    """Of distances and fading, >= 0."""

    def __post_init__(self):
        """Checks types, choices and ranges."""
        check_types(self)
        positive = ("bandwidth_hz", "macs_per_cycle", "server_macs_per_second")
        for name in positive:
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name}={getattr(self, name)}: expected more than 0.")
        for name in ("noise_dbm_per_hz", "device_power_dbm", "server_power_dbm"):
            if not np.isfinite(getattr(self, name)):
                raise InputError(
                    f"{name}={getattr(self, name)}: expected a finite number."
                )
        near, far = self.distance_m
        if not 0 < near <= far < np.inf:
            raise InputError(
                f"distance_m={self.distance_m}: expected 0 < least <= greatest."
            )
        if not self.clock_hz or not all(0 < f < np.inf for f in self.clock_hz):
            raise InputError(f"clock_hz={self.clock_hz}: expected more than 0.")
        if not 0 <= self.capacitance < np.inf:
            raise InputError(f"capacitance={self.capacitance}: expected at least 0.")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise InputError(f"deadline_s={self.deadline_s}: expected more than 0.")
        if self.channel_seed < 0:
            raise InputError(f"channel_seed={self.channel_seed}: expected at least 0.")


def watts(dbm: float) -> float:
    """Power from decibels over a milliwatt."""
    return 10 ** (dbm / 10) / 1000


def path_gain(distance_m: np.ndarray) -> np.ndarray:
    """H without fading, from the distance in metres."""
    loss_db = 128.1 + 37.6 * np.log10(np.asarray(distance_m) / 1000)
    return 10 ** (-loss_db / 10)


def gains(channel: Channel, client_id: np.ndarray, first_round: int = 0) -> np.ndarray:
    """h_k of every client in every round.

    A client's distance depends on who it is, its fading on the round too, and neither
    on anything else of the channel.

    Args:
      channel: distances and fading.
      client_id: `[T, K]`.
      first_round: number of the first round.

    Returns:
      `[T, K]`.
    """
    clients = int(client_id.max()) + 1
    seed, (near, far) = channel.channel_seed, channel.distance_m
    place = np.random.default_rng([seed, DISTANCE]).uniform(size=clients)
    gain = path_gain(near + (far - near) * place)[client_id]
    if not channel.fading:
        return gain
    rounds = range(first_round, first_round + len(client_id))
    drawn = [
        np.random.default_rng([seed, FADING, t]).exponential(size=clients)
        for t in rounds
    ]
    return gain * np.take_along_axis(np.array(drawn), client_id, axis=1)


def rate(bandwidth_hz, power_w: float, gain: np.ndarray, noise: float) -> np.ndarray:
    """Bits per second, `B log2(1 + P h / (B N_0))`, noise in watts per hertz."""
    return bandwidth_hz * np.log2(1 + power_w * gain / (bandwidth_hz * noise))


def shared_rate(
    channel: Channel, power_w: float, gain: np.ndarray, active: np.ndarray
) -> np.ndarray:
    """Bits per second of each client's share of the band.

    Args:
      channel: the band, its noise, and how it is shared.
      power_w: that each sender has, or that is sent to each.
      gain: `[T, K]`.
      active: `[T, K]` bool, who takes part and has a share.

    Returns:
      `[T, K]`, 0 for who does not take part.
    """
    noise = watts(channel.noise_dbm_per_hz)
    equal = channel.bandwidth_hz / np.maximum(active.sum(axis=1, keepdims=True), 1)
    hertz = np.broadcast_to(equal, gain.shape)
    if channel.share == "rate":
        efficiency = np.where(active, rate(equal, power_w, gain, noise) / equal, 0)
        total = efficiency.sum(axis=1, keepdims=True)
        hertz = channel.bandwidth_hz * efficiency / np.where(total > 0, total, 1)
    has = active & (hertz > 0)
    return np.where(has, rate(np.where(has, hertz, 1.0), power_w, gain, noise), 0.0)
