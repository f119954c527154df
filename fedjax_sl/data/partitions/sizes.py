"""The examples at random, in given sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedjax_sl.checks import check, check_types
from fedjax_sl.data.partition import Partition, Partitioner, pack
from fedjax_sl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sizes(Partitioner):
    """All examples at random, so many for each client."""

    options = ("sizes",)

    sizes: tuple[int, ...] = ()
    """Examples of each client, >= 1; as many as there are clients, n in total."""

    def __post_init__(self):
        """Checks the range that depends on no data."""
        check_types(self)
        check(self, "sizes", lambda v: v >= 1, "at least 1 example of each client")

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does.

        Raises:
          ValueError: if there are not as many sizes as clients, or they do not add up
            to the number of examples.
        """
        if len(self.sizes) != num_clients:
            raise InputError(
                f"sizes={self.sizes}: expected {num_clients}, one for each client."
            )
        # A remainder would have no owner, and partitions are exhaustive.
        if sum(self.sizes) != len(labels):
            raise InputError(
                f"sizes={self.sizes}: expected {len(labels)} in total, all training "
                f"examples, not {sum(self.sizes)}."
            )
        order = rng.permutation(len(labels))
        return pack(np.split(order, np.cumsum(self.sizes)[:-1]))


def sizes(
    rng: np.random.Generator, labels: np.ndarray, sizes: Sequence[int]
) -> Partition:
    """Partitions the examples by `Sizes`, whose field is the last argument."""
    return Sizes(sizes=tuple(sizes))(rng, labels, len(sizes))
