"""A wireless cell: distances, compute speeds and link rates of its devices.

The model is reconstructed from common practice in split learning over wireless links:
path loss 128.1 + 37.6 log10(d / km) dB, Rayleigh fading redrawn each round, OFDMA with
rates B log2(1 + P h / (B N_0)).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedjax_sl.checks import check_choice, check_types
from fedjax_sl.errors import InputError


DISTANCE, FADING = range(2)
"""Stream numbers, which join the seed so that the two draws are independent."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One server and the devices in its cell."""

    bandwidth_hz: float = 10e6
    """B, bandwidth of the uplink and of the downlink, > 0."""

    noise_dbm_per_hz: float = -174.0
    """N_0, noise density."""

    device_power_dbm: float = 23.0
    """P_k, transmit power of a device."""

    server_power_dbm: float = 46.0
    """P_s, transmit power of the server."""

    server_power: Literal["each", "split"] = "each"
    """How the server sends to several at once: to each with P_s, or with P_s in all,
    split in proportion to their shares of the band."""

    distance_m: tuple[float, float] = (50.0, 500.0)
    """Smallest and largest distance of a device; each is drawn uniformly once, > 0."""

    fading: bool = True
    """Rayleigh fading, redrawn for each device in each round."""

    deepest_fade_db: float | None = None
    """How far below the mean gain a fade counts at most, >= 0. Not given, every fade
    counts, and a few of the deepest take much of a run's time."""

    share: Literal["equal", "rate"] = "equal"
    """How the band is shared: equally, or in proportion to spectral efficiency."""

    # Apart from MACs per cycle: time takes the product, energy the clock alone.
    clock_hz: tuple[float, ...] = (1.0e9, 1.2e9, 1.4e9, 1.6e9)
    """f_k of the device classes, assigned to clients round-robin, > 0."""

    macs_per_cycle: float = 1000.0
    """MACs that a device does in one cycle, > 0."""

    capacitance: float = 1e-27
    """kappa, effective capacitance; a cycle takes kappa f^2 joules, >= 0."""

    server_macs_per_second: float = 2e13
    """f_s, speed of the server, > 0."""

    deadline_s: float | None = None
    """A round ends after this time, > 0; clients not done by then are stragglers."""

    channel_seed: int = 0
    """Seed of distances and fading, >= 0."""

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
        if self.deepest_fade_db is not None and not 0 <= self.deepest_fade_db < np.inf:
            raise InputError(
                f"deepest_fade_db={self.deepest_fade_db}: expected at least 0 dB."
            )
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise InputError(f"deadline_s={self.deadline_s}: expected more than 0.")
        if self.channel_seed < 0:
            raise InputError(f"channel_seed={self.channel_seed}: expected at least 0.")


def watts(dbm: float) -> float:
    """Converts dBm to watts."""
    return 10 ** (dbm / 10) / 1000


def path_gain(distance_m: np.ndarray) -> np.ndarray:
    """Path gain without fading, from the distance in metres."""
    loss_db = 128.1 + 37.6 * np.log10(np.asarray(distance_m) / 1000)
    return 10 ** (-loss_db / 10)


def gains(channel: Channel, client_id: np.ndarray, first_round: int = 0) -> np.ndarray:
    """Returns the channel gain h_k of every client in every round.

    A client's distance depends on its id alone and its fading on its id and the round,
    so other fields of the channel do not change them.

    Args:
      channel: distances and fading.
      client_id: `[T, K]`.
      first_round: number of the first round.

    Returns:
      Gains, `[T, K]`.
    """
    # Ids up to the largest: first draws are the same however many follow.
    clients = int(client_id.max()) + 1
    seed, (near, far) = channel.channel_seed, channel.distance_m
    # Uniform in distance: uniform over the cell's area, devices would be further out.
    position = np.random.default_rng([seed, DISTANCE]).uniform(size=clients)
    gain = path_gain(near + (far - near) * position)[client_id]
    if not channel.fading:
        return gain
    rounds = range(first_round, first_round + len(client_id))
    # Seeded by the round, so that it does not matter where a run was resumed.
    # The power of a Rayleigh amplitude is exponential.
    drawn = [
        np.random.default_rng([seed, FADING, t]).exponential(size=clients)
        for t in rounds
    ]
    fades = np.take_along_axis(np.array(drawn), client_id, axis=1)
    if channel.deepest_fade_db is not None:
        fades = np.maximum(fades, 10 ** (-channel.deepest_fade_db / 10))
    return gain * fades


def rate(bandwidth_hz, power_w: float, gain: np.ndarray, noise: float) -> np.ndarray:
    """Shannon rate `B log2(1 + P h / (B N_0))` in bit/s; noise in watts per hertz."""
    return bandwidth_hz * np.log2(1 + power_w * gain / (bandwidth_hz * noise))


Direction = Literal["up", "down"]
"""To the server, or from it."""


def link_rate(channel: Channel, hertz, gain: np.ndarray, way: Direction) -> np.ndarray:
    """Returns the rate over a part of the band, bit/s.

    Args:
      channel: transmit powers, noise, and how the server's power is split.
      hertz: width of the part, > 0.
      gain: `[T, K]`.
      way: who sends.
    """
    check_choice("way", way, Direction)
    noise = watts(channel.noise_dbm_per_hz)
    if way == "up":
        return rate(hertz, watts(channel.device_power_dbm), gain, noise)
    power = watts(channel.server_power_dbm)
    if channel.server_power == "split":
        power = power * hertz / channel.bandwidth_hz
    return rate(hertz, power, gain, noise)


def shared_rate(
    channel: Channel, gain: np.ndarray, active: np.ndarray, way: Direction
) -> np.ndarray:
    """Returns the rate of each client over its share of the band, bit/s.

    Args:
      channel: the band, its noise, and how it is shared.
      gain: `[T, K]`.
      active: `[T, K]` bool, clients that participate and get a share.
      way: who sends.

    Returns:
      `[T, K]`, 0 for clients that do not participate.
    """
    check_choice("way", way, Direction)
    # No client may be active in a round, so divide by at least 1.
    equal = channel.bandwidth_hz / np.maximum(active.sum(axis=1, keepdims=True), 1)
    hertz = np.broadcast_to(equal, gain.shape)
    if channel.share == "rate":
        # At equal shares: at those that result it would depend on itself.
        efficiency = np.where(active, link_rate(channel, equal, gain, way) / equal, 0)
        total = efficiency.sum(axis=1, keepdims=True)
        hertz = channel.bandwidth_hz * efficiency / np.where(total > 0, total, 1)
    has = active & (hertz > 0)
    # Any bandwidth will do where there is none, but 0 would divide 0 by 0.
    rates = link_rate(channel, np.where(has, hertz, 1.0), gain, way)
    return np.where(has, rates, 0.0)
