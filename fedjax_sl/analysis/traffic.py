"""Counts of what crossed -> bits, on the host, in 64 bits."""

from typing import NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Link, RoundMetrics


class Traffic(NamedTuple):
    """Bits per link, each `[T, K]` int64."""

    model_down: np.ndarray
    activations_up: np.ndarray
    gradients_down: np.ndarray
    updates_up: np.ndarray

    @property
    def uplink(self) -> np.ndarray:
        """`[T, K]` bits that each client sent."""
        return self.activations_up + self.updates_up

    @property
    def downlink(self) -> np.ndarray:
        """`[T, K]` bits that each client received."""
        return self.model_down + self.gradients_down


def bits(link: Link) -> np.ndarray:
    """`entries * bits + side`, int64, of the shape of the link's counts."""
    entries, width, side = (np.asarray(x, np.int64) for x in jax.device_get(link))
    return entries * width + side


def traffic(rounds: RoundMetrics) -> Traffic:
    """Bits of each link, client and round.

    Args:
      rounds: metrics with leaves `[T, K]`.

    Returns:
      `Traffic`.
    """
    return Traffic(
        model_down=bits(rounds.model_down),
        activations_up=bits(rounds.activations_up),
        gradients_down=bits(rounds.gradients_down),
        updates_up=bits(rounds.updates_up),
    )
