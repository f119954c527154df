"""Partitions of the examples among clients, by labels or natural owners, in NumPy.

Every partition is disjoint and exhaustive: each example belongs to exactly one client.
`data.partitions` has one file for each kind.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from fedjax_sl.errors import InputError


class Partition(NamedTuple):
    """The examples of each of N clients; M is the largest number of examples.

    Attributes:
      index: `[N, M]` int32, each client's examples in ascending order, then -1.
      count: `[N]` int32, number of each client's examples.
    """

    index: np.ndarray
    count: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Partitioner(ABC):
    """A kind of partition; its numbers are fields."""

    options: ClassVar[tuple[str, ...]] = ()
    """Fields that `DataConfig` has, too, and sets; the others keep their defaults."""

    by: ClassVar[Literal["label", "client"]] = "label"
    """The field of the data set whose values are given as `labels`."""

    @abstractmethod
    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples among clients.

        Args:
          rng: source of randomness.
          labels: `[n]`, labels of the examples, or their natural owners (`by`).
          num_clients: N.

        Returns:
          A partition.

        Raises:
          ValueError: if there are too few examples.
        """


def check_clients(labels: np.ndarray, num_clients: int, shards: int = 1) -> None:
    """Rejects fewer examples than clients, or than their shards in total.

    Raises:
      ValueError: naming the numbers of clients that are possible.
    """
    # A shard has at least one example, or its client might have none.
    if not 1 <= num_clients <= len(labels) // shards:
        raise InputError(
            f"num_clients={num_clients}: expected 1 to {len(labels) // shards} for "
            f"{len(labels)} examples."
        )


def pack(owned: list[np.ndarray]) -> Partition:
    """Builds a partition from one array of examples for each client."""
    count = np.array([len(mine) for mine in owned], np.int32)
    index = np.full((len(owned), count.max()), -1, np.int32)
    for row, mine in zip(index, owned, strict=True):
        # Sorted: the order of use is drawn later, by client and epoch.
        row[: len(mine)] = np.sort(mine)
    return Partition(index, count)


def deal(
    rng: np.random.Generator,
    labels: np.ndarray,
    classes: np.ndarray,
    sizes: np.ndarray,
) -> Partition:
    """Assigns random examples of each class to clients.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      classes: `[C]`, the labels that occur.
      sizes: `[C, N]`, how many examples of each class each client receives.

    Returns:
      A partition.
    """
    owned = []
    for label, of_class in zip(classes, sizes, strict=True):
        # Shuffled: many sets are stored in series of similar examples.
        members = rng.permutation(np.flatnonzero(labels == label))
        # Without the last end, behind which `split` would add an empty piece.
        owned.append(np.split(members, np.cumsum(of_class)[:-1]))
    return pack([np.concatenate(mine) for mine in zip(*owned, strict=True)])
