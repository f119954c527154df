"""Each class in proportions that are drawn."""

from dataclasses import dataclass

import numpy as np

from fedjax_sl.checks import check_integer, check_number, check_types
from fedjax_sl.data.partition import Partition, Partitioner, check_clients, deal
from fedjax_sl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Dirichlet(Partitioner):
    """Each class in proportions q_c ~ Dirichlet(alpha 1_N).

    As in Yurochkin et al. (arXiv 1905.12022), whose code, and NIID-Bench's after it,
    also balances sizes. Small alpha gives each class to few clients; large alpha gives
    every client the same mix.
    """

    options = ("alpha", "min_size", "self_balancing")

    alpha: float = 0.5
    """Concentration, > 0."""

    min_size: int = 10
    """The proportions are redrawn while a client has fewer examples, >= 0."""

    self_balancing: bool = False
    """Of a class, nothing goes to clients that own n / N examples by then."""

    max_retries: int = 1000
    """Largest number of draws, >= 1."""

    def __post_init__(self):
        """Checks types, and the ranges that depend on no data."""
        check_types(self)
        check_number("alpha", self.alpha, lambda v: v > 0, "> 0")
        check_integer("min_size", self.min_size, 0)
        check_integer("max_retries", self.max_retries, 1)

    def __call__(
        self, rng: np.random.Generator, labels: np.ndarray, num_clients: int
    ) -> Partition:
        """Partitions the examples, as `Partitioner` does.

        Raises:
          ValueError: if there are too few examples, or no draw gave every client
            enough.
        """
        check_clients(labels, num_clients)
        # Known at once: no draw could succeed, after however many.
        if self.min_size * num_clients > len(labels):
            raise InputError(
                f"min_size={self.min_size}: expected at most "
                f"{len(labels) // num_clients} for {num_clients} clients and "
                f"{len(labels)} examples."
            )
        classes, class_size = np.unique(labels, return_counts=True)
        sizes = self._drawn(rng, class_size, num_clients)
        return deal(rng, labels, classes, sizes)

    def _drawn(self, rng, class_size, num_clients) -> np.ndarray:
        """Draws how many examples of each class each client receives, `[C, N]`."""
        best = np.zeros((len(class_size), num_clients), int)
        for _ in range(self.max_retries):
            shares = rng.dirichlet(np.full(num_clients, self.alpha), len(class_size))
            if self.self_balancing:
                sizes = _balanced(shares, class_size)
            else:
                sizes = _whole(shares, class_size[:, None])
            if sizes.sum(axis=0).min() >= self.min_size:
                return sizes
            # For the message: how far the draws were from enough.
            best = max(best, sizes, key=lambda drawn: drawn.sum(axis=0).min())
        owned = best.sum(axis=0)
        raise InputError(
            f"alpha={self.alpha}: in the best of {self.max_retries} draws client "
            f"{owned.argmin()} has {owned.min()} examples, fewer than "
            f"min_size={self.min_size}; try a larger alpha, fewer clients or a smaller "
            "min_size."
        )


def _whole(shares: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Divides examples in these shares, `[..., N]`, each exactly once."""
    # Cumulative shares are rounded, so that nothing is lost or given twice.
    cuts = np.round(np.cumsum(shares, axis=-1) * size).astype(int)
    return np.diff(cuts, axis=-1, prepend=0)


def _balanced(shares: np.ndarray, class_size: np.ndarray) -> np.ndarray:
    """Divides class after class among the clients that own less than an equal part."""
    sizes = np.zeros(shares.shape, int)
    equal = class_size.sum() / shares.shape[1]
    for one, (share, size) in enumerate(zip(shares, class_size, strict=True)):
        wanting = share * (sizes.sum(axis=0) < equal)
        # Shares of those who want some may all have underflowed to 0.
        wanting = wanting if wanting.sum() > 0 else share
        sizes[one] = _whole(wanting / wanting.sum(), size)
    return sizes


def dirichlet(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    alpha: float,
    min_size: int = 10,
    self_balancing: bool = False,
    max_retries: int = 1000,
) -> Partition:
    """Partitions the examples by `Dirichlet`, whose fields are the other arguments."""
    kind = Dirichlet(
        alpha=alpha,
        min_size=min_size,
        self_balancing=self_balancing,
        max_retries=max_retries,
    )
    return kind(rng, labels, num_clients)
