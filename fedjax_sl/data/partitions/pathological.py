"""A fixed number of classes for each client."""

from dataclasses import dataclass

import numpy as np

from fedjax_sl.checks import check_types
from fedjax_sl.data.partition import Partition, Partitioner, check_clients, deal
from fedjax_sl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pathological(Partitioner):
    """A fixed number of classes for each client, each class divided evenly.

    Every class is used; the numbers of clients per class differ by at most one.
    """

    options = ("classes_per_client",)

    classes_per_client: int = 2
    """From 1 to C; N times that is at least C."""

    def __post_init__(self):
        """Checks types; the range depends on the data."""
        check_types(self)

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does.

        Raises:
          ValueError: if the number of classes is out of range, or a class has too few
            examples.
        """
        check_clients(labels, num_clients)
        classes, class_size = np.unique(labels, return_counts=True)
        sees = self._drawn(rng, len(classes), num_clients)
        users = sees.sum(axis=1)
        # Each of its users needs an example, or it would not see the class.
        if (class_size < users).any():
            scarce = (class_size - users).argmin()
            raise InputError(
                f"num_clients={num_clients}: class {classes[scarce]} has "
                f"{class_size[scarce]} examples for {users[scarce]} clients."
            )
        # The first users of a class take the remainder, one example each.
        rank = np.cumsum(sees, axis=1) - 1
        even, extra = np.divmod(class_size, users)
        sizes = sees * (even[:, None] + (rank < extra[:, None]))
        return deal(rng, labels, classes, sizes)

    def _drawn(self, rng, num_classes: int, num_clients: int) -> np.ndarray:
        """Draws the classes of each client, `[C, N]` bool."""
        # With fewer, a class would have no client, and its examples no owner.
        fewest = -(-num_classes // num_clients)
        if not fewest <= self.classes_per_client <= num_classes:
            raise InputError(
                f"classes_per_client={self.classes_per_client}: expected {fewest} to "
                f"{num_classes} for {num_clients} clients and {num_classes} classes."
            )
        sees = np.zeros((num_classes, num_clients), bool)
        for client in range(num_clients):
            used = sees.sum(axis=1)
            # Ties are broken at random.
            # `lexsort` takes its last key first.
            least_used = np.lexsort((rng.random(num_classes), used))
            sees[least_used[: self.classes_per_client], client] = True
        return sees


def pathological(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    classes_per_client: int = 2,
) -> Partition:
    """Partitions the examples by `Pathological`, whose field is the last argument."""
    kind = Pathological(classes_per_client=classes_per_client)
    return kind(rng, labels, num_clients)
