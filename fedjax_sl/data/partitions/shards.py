"""Shards of the examples sorted by label: all of them, or most."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedjax_sl.checks import check_integer, check_number
from fedjax_sl.data.partition import Partition, Partitioner, check_clients, pack


class _Cut(NamedTuple):
    """Into how many shards examples are cut: those of each client."""

    num_clients: int
    shards_per_client: int


def _shards(rng, labels, members, cut: _Cut) -> list[np.ndarray]:
    """Sorts some of the examples by label, cuts them evenly, and assigns the shards."""
    # Shuffled first: the stable sort keeps a random order within each class.
    members = rng.permutation(members)
    by_label = members[np.argsort(labels[members], kind="stable")]
    pieces = np.array_split(by_label, cut.num_clients * cut.shards_per_client)
    # A cut is a shape, too: [clients, shards].
    assigned = rng.permutation(len(pieces)).reshape(cut)
    return [np.concatenate([pieces[n] for n in mine]) for mine in assigned]


@dataclass(frozen=True, kw_only=True)
class Shards(Partitioner):
    """The examples sorted by label and cut into shards, some for each client.

    The pathological split of McMahan et al. (arXiv 1602.05629): with two shards, most
    clients see two classes.
    """

    options = ("shards_per_client",)

    shards_per_client: int = 2
    """Shards of each client, >= 1; N times that is at most n."""

    def __post_init__(self):
        """Checks the range that depends on no data."""
        check_integer("shards_per_client", self.shards_per_client, 1)

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does."""
        check_clients(labels, num_clients, self.shards_per_client)
        cut = _Cut(num_clients, self.shards_per_client)
        return pack(_shards(rng, labels, np.arange(len(labels)), cut))


@dataclass(frozen=True, kw_only=True)
class Mixed(Partitioner):
    """Most examples by shards, the rest at random.

    Reconstructed from FedLP's code, where the two parts may overlap; here they do not.
    """

    # A configuration's shards are those of `Shards` alone: FedLP's mix has two.
    options = ("major_share",)

    major_share: float = 0.95
    """Share of the examples, and of each client's, in shards, in [0, 1]; 1 is `Shards`,
    0 is `IID`."""

    shards_per_client: int = 2
    """Shards of each client, >= 1."""

    def __post_init__(self):
        """Checks the ranges that depend on no data."""
        check_number(
            "major_share", self.major_share, lambda v: 0 <= v <= 1, "in [0, 1]"
        )
        check_integer("shards_per_client", self.shards_per_client, 1)

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does."""
        check_clients(labels, num_clients, self.shards_per_client)
        # Divided before anything is sorted: the minor part is IID, and none is in both.
        order = rng.permutation(len(labels))
        major, minor = np.split(order, [round(self.major_share * len(order))])
        own = _shards(rng, labels, major, _Cut(num_clients, self.shards_per_client))
        rest = np.array_split(minor, num_clients)
        return pack([np.concatenate(both) for both in zip(own, rest, strict=True)])


def shards(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    shards_per_client: int = 2,
) -> Partition:
    """Partitions the examples by `Shards`, whose field is the last argument."""
    kind = Shards(shards_per_client=shards_per_client)
    return kind(rng, labels, num_clients)


def mixed(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    major_share: float = 0.95,
    shards_per_client: int = 2,
) -> Partition:
    """Partitions the examples by `Mixed`, whose fields are the other arguments."""
    kind = Mixed(major_share=major_share, shards_per_client=shards_per_client)
    return kind(rng, labels, num_clients)
