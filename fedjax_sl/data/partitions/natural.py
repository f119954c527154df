"""The examples to those who own them."""

from dataclasses import dataclass

import numpy as np

from fedjax_sl.data.partition import Partition, Partitioner, pack
from fedjax_sl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Natural(Partitioner):
    """Each example to its natural owner; client k has the k-th id in ascending order.

    As the writers of FEMNIST (LEAF, arXiv 1812.01097).
    """

    by = "client"

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does.

        Args:
          rng: not used.
          labels: `[n]`, the owner of each example.
          num_clients: N.

        Returns:
          A partition.

        Raises:
          ValueError: if there are not as many owners as clients.
        """
        _, count = np.unique(labels, return_counts=True)
        if len(count) != num_clients:
            raise InputError(
                f"num_clients={num_clients}: expected {len(count)}, the owners of the "
                f"{len(labels)} training examples."
            )
        by_owner = np.argsort(labels, kind="stable")
        return pack(np.split(by_owner, np.cumsum(count)[:-1]))


def natural(client: np.ndarray) -> Partition:
    """Partitions the examples by `Natural`, among as many clients as own some.

    Args:
      client: `[n]`, the owner of each example.

    Returns:
      A partition.
    """
    # The interface asks for a generator, of which nothing is drawn.
    return Natural()(np.random.default_rng(0), client, len(np.unique(client)))
