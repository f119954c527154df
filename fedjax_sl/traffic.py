"""Counts of what was sent -> bits, on the host, in 64 bits: the record of a run."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from fedjax_sl.algorithm import Link, Links, RoundMetrics, Work


AT_SECOND_CUT = ("features_down", "gradients_up")
"""Links that only a U-shaped network has."""


class Traffic(NamedTuple):
    """Bits per link, each `[T, K]` int64."""

    # In the order of `Links`. The names are columns of rounds.jsonl, too.
    model_down: np.ndarray
    activations_up: np.ndarray
    labels_up: np.ndarray
    gradients_down: np.ndarray
    updates_up: np.ndarray
    features_down: np.ndarray
    gradients_up: np.ndarray

    @property
    def uplink(self) -> np.ndarray:
        """`[T, K]` bits that each client sends."""
        at_cuts = self.activations_up + self.labels_up + self.gradients_up
        return at_cuts + self.updates_up

    @property
    def downlink(self) -> np.ndarray:
        """`[T, K]` bits that each client received."""
        return self.model_down + self.gradients_down + self.features_down


def bits(link: Link) -> np.ndarray:
    """Computes `entries * bits + more + side`, int64, of the shape of the counts."""
    # On the host: the product may exceed int32, and JAX has no int64 by default.
    counts = (np.asarray(count, np.int64) for count in jax.device_get(link))
    entries, width, more, side = counts
    return entries * width + more + side


def _each(count: Callable[[Link], np.ndarray], links: Links) -> Traffic:
    """Counts every link; 0 over one that the network does not have."""
    # Zeros: records of networks with one cut and with two have the same columns.
    none = np.zeros_like(count(links.model_down))
    return Traffic(*(none if link is None else count(link) for link in links))


def traffic(links: Links) -> Traffic:
    """Computes the bits of each link, client and round, with side information.

    Args:
      links: of rounds, leaves `[T, K]`.

    Returns:
      `Traffic`.
    """
    return _each(bits, links)


def side_information(links: Links) -> Traffic:
    """Returns the part of `traffic` that is side information."""
    return _each(lambda link: np.asarray(link.side, np.int64), links)


class Record(NamedTuple):
    """Traffic and work of T rounds of K clients.

    Attributes:
      client_id: `[T, K]`.
      traffic: bits of all messages.
      side: bits of side information among them.
      client_macs: `[T, K]` MACs of each client's forward passes.
      server_macs: `[T, K]` MACs of the server's forward passes for this client.
      tail_macs: `[T, K]` those of the client's MACs that are behind a second cut.
    """

    client_id: np.ndarray
    traffic: Traffic
    side: Traffic
    client_macs: np.ndarray
    server_macs: np.ndarray
    tail_macs: np.ndarray


def recorded(client_id: ArrayLike, links: Links, work: Work) -> Record:
    """Builds the record of rounds from their counts, leaves `[T, K]`."""
    # float64 before anything is summed over the rounds of a run.
    client = np.asarray(work.client, np.float64)
    tail = 0 * client if work.tail is None else np.asarray(work.tail, np.float64)
    return Record(
        client_id=np.asarray(client_id),
        traffic=traffic(links),
        side=side_information(links),
        client_macs=client,
        server_macs=np.asarray(work.server, np.float64),
        tail_macs=tail,
    )


def record_of(rounds: RoundMetrics) -> Record:
    """Builds the record of rounds from their metrics, leaves `[T, K]`."""
    return recorded(rounds.client_id, rounds.links, rounds.work)


def without_side(record: Record) -> Record:
    """Returns the record without the bits of side information."""
    pairs = zip(record.traffic, record.side, strict=True)
    return record._replace(
        traffic=Traffic(*(bits - side for bits, side in pairs)),
        # Zero now: taken off twice, it would leave too few bits.
        side=Traffic(*(0 * side for side in record.side)),
    )
