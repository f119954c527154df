"""The examples at random, in sizes that are drawn."""

from dataclasses import dataclass

import numpy as np

from fedjax_sl.data.partition import Partition
from fedjax_sl.data.partitions.dirichlet import Dirichlet


@dataclass(frozen=True, kw_only=True)
class Quantity(Dirichlet):
    """All examples at random, in sizes n q with q ~ Dirichlet(alpha 1_N).

    The quantity skew of NIID-Bench (arXiv 2102.02079), whose beta is
    alpha: `Dirichlet` with all examples in one class, of which nothing is balanced.
    """

    options = ("alpha", "min_size")

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does.

        Raises:
          ValueError: if there are too few examples, or no draw gave every client
            enough.
        """
        return super().__call__(rng, np.zeros(len(labels), int), num_clients)


def quantity(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    alpha: float = 0.5,
    min_size: int = 10,
) -> Partition:
    """Partitions the examples by `Quantity`, whose fields are the other arguments."""
    return Quantity(alpha=alpha, min_size=min_size)(rng, labels, num_clients)
