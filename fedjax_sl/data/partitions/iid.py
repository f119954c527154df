"""The examples at random."""

from dataclasses import dataclass

import numpy as np

from fedjax_sl.data.partition import Partition, Partitioner, check_clients, pack


@dataclass(frozen=True, kw_only=True)
class IID(Partitioner):
    """All examples at random, in sizes that differ by at most one."""

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does."""
        check_clients(labels, num_clients)
        # `np.split` would refuse a number of clients that does not divide n.
        return pack(np.array_split(rng.permutation(len(labels)), num_clients))


def iid(rng: np.random.Generator, labels: np.ndarray, num_clients: int) -> Partition:
    """Partitions the examples by `IID`."""
    return IID()(rng, labels, num_clients)
