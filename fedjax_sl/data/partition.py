"""Partitions of the examples among clients, by their labels, in NumPy.

Names and defaults follow flwr-datasets if it has them. Every partition is disjoint and
exhaustive: each example belongs to exactly one client.
"""

from typing import NamedTuple

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


def _pack(owned: list[np.ndarray]) -> Partition:
    """Builds a partition from one array of examples for each client."""
    count = np.array([len(mine) for mine in owned], np.int32)
    index = np.full((len(owned), count.max()), -1, np.int32)
    for row, mine in zip(index, owned, strict=True):
        row[: len(mine)] = np.sort(mine)
    return Partition(index, count)


def _check(labels: np.ndarray, num_clients: int, pieces: int = 1) -> None:
    """Rejects fewer examples than clients, or than shards in total."""
    if pieces < 1:
        raise InputError(f"shards_per_client={pieces}: expected at least 1.")
    if not 1 <= num_clients <= len(labels) // pieces:
        raise InputError(
            f"num_clients={num_clients}: expected 1 to {len(labels) // pieces} for "
            f"{len(labels)} examples."
        )


def _shards(rng, labels, members, num_clients, per_client) -> list[np.ndarray]:
    """Sorts some of the examples by label, cuts them evenly, and assigns the shards."""
    # Shuffled first: the stable sort keeps a random order within each class.
    members = rng.permutation(members)
    by_label = members[np.argsort(labels[members], kind="stable")]
    pieces = np.array_split(by_label, num_clients * per_client)
    assigned = rng.permutation(len(pieces)).reshape(num_clients, per_client)
    return [np.concatenate([pieces[n] for n in mine]) for mine in assigned]


def iid(rng: np.random.Generator, labels: np.ndarray, num_clients: int) -> Partition:
    """Partitions all examples at random, in sizes that differ by at most one.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N, at most n.

    Returns:
      A partition.

    Raises:
      ValueError: if there are more clients than examples.
    """
    _check(labels, num_clients)
    return _pack(np.array_split(rng.permutation(len(labels)), num_clients))


def shards(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    shards_per_client: int = 2,
) -> Partition:
    """Sorts the examples by label, cuts shards, and assigns some to each client.

    The pathological split of McMahan et al. (arXiv 1602.05629): with two shards, most
    clients see two classes.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      shards_per_client: shards of each client; N times that is at most n.

    Returns:
      A partition.

    Raises:
      ValueError: if there are more shards than examples.
    """
    _check(labels, num_clients, shards_per_client)
    everything = np.arange(len(labels))
    return _pack(_shards(rng, labels, everything, num_clients, shards_per_client))


def mixed(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    major_share: float = 0.95,
    shards_per_client: int = 2,
) -> Partition:
    """Partitions most examples by shards, the rest at random.

    Reconstructed from FedLP's code, where the two parts may overlap; here they do not.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      major_share: share of the examples, and of each client's, in shards, in [0, 1]; 1
        is `shards`, 0 is `iid`.
      shards_per_client: shards of each client.

    Returns:
      A partition.

    Raises:
      ValueError: if `major_share` is out of range, or there are too few examples.
    """
    _check(labels, num_clients, shards_per_client)
    if not 0 <= major_share <= 1:
        raise InputError(f"major_share={major_share}: expected a number in [0, 1].")
    order = rng.permutation(len(labels))
    major, minor = np.split(order, [round(major_share * len(order))])
    own = _shards(rng, labels, major, num_clients, shards_per_client)
    rest = np.array_split(minor, num_clients)
    return _pack([np.concatenate(both) for both in zip(own, rest, strict=True)])


def dirichlet(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    alpha: float,
    min_size: int = 10,
    max_retries: int = 1000,
) -> Partition:
    """Partitions each class in proportions q_c ~ Dirichlet(alpha 1_N).

    As in Yurochkin et al. (arXiv 1905.12022). Small alpha gives each class to few
    clients; large alpha gives every client the same mix.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      alpha: concentration, > 0.
      min_size: the proportions are redrawn while a client has fewer examples.
      max_retries: largest number of draws.

    Returns:
      A partition.

    Raises:
      ValueError: if a value is out of range, or no draw gave every client enough.
    """
    _check(labels, num_clients)
    if not alpha > 0:
        raise InputError(f"alpha={alpha}: expected a number > 0.")
    if max_retries < 1:
        raise InputError(f"max_retries={max_retries}: expected at least 1.")
    if min_size * num_clients > len(labels):
        raise InputError(
            f"min_size={min_size}: expected at most {len(labels) // num_clients} for "
            f"{num_clients} clients and {len(labels)} examples."
        )
    classes, class_size = np.unique(labels, return_counts=True)
    best = np.zeros((len(classes), num_clients), int)
    for _ in range(max_retries):
        shares = rng.dirichlet(np.full(num_clients, alpha), len(classes))
        # Rounding cumulative shares assigns every example exactly once.
        cuts = np.round(np.cumsum(shares, axis=1) * class_size[:, None]).astype(int)
        sizes = np.diff(cuts, axis=1, prepend=0)
        if sizes.sum(axis=0).min() >= min_size:
            return _deal(rng, labels, classes, sizes)
        best = max(best, sizes, key=lambda drawn: drawn.sum(axis=0).min())
    owned = best.sum(axis=0)
    raise InputError(
        f"alpha={alpha}: in the best of {max_retries} draws client {owned.argmin()} "
        f"has {owned.min()} examples, fewer than min_size={min_size}; try a larger "
        "alpha, fewer clients or a smaller min_size."
    )


def _deal(rng, labels, classes, sizes) -> Partition:
    """Assigns client k a random `sizes[c, k]` of the examples of each class c."""
    owned = []
    for label, of_class in zip(classes, sizes, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        owned.append(np.split(members, np.cumsum(of_class)[:-1]))
    return _pack([np.concatenate(mine) for mine in zip(*owned, strict=True)])


def pathological(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    classes_per_client: int = 2,
) -> Partition:
    """Gives each client a fixed number of classes, and divides each class evenly.

    Every class is used; the numbers of clients per class differ by at most one.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      classes_per_client: from 1 to C; N times that is at least C.

    Returns:
      A partition.

    Raises:
      ValueError: if a value is out of range, or a class has too few examples.
    """
    _check(labels, num_clients)
    classes, class_size = np.unique(labels, return_counts=True)
    fewest = -(-len(classes) // num_clients)
    if not fewest <= classes_per_client <= len(classes):
        raise InputError(
            f"classes_per_client={classes_per_client}: expected {fewest} to "
            f"{len(classes)} for {num_clients} clients and {len(classes)} classes."
        )
    sees = np.zeros((len(classes), num_clients), bool)
    for client in range(num_clients):
        used = sees.sum(axis=1)
        # Ties are broken at random.
        least_used = np.lexsort((rng.random(len(classes)), used))
        sees[least_used[:classes_per_client], client] = True
    users = sees.sum(axis=1)
    if (class_size < users).any():
        scarce = (class_size - users).argmin()
        raise InputError(
            f"num_clients={num_clients}: class {classes[scarce]} has "
            f"{class_size[scarce]} examples for {users[scarce]} clients."
        )
    # The first users of a class take the remainder, one example each.
    rank = np.cumsum(sees, axis=1) - 1
    even, extra = np.divmod(class_size, users)
    return _deal(rng, labels, classes, sees * (even[:, None] + (rank < extra[:, None])))
