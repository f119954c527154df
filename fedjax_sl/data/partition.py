"""Who owns which example: NumPy only, from the labels alone.

Names follow flwr-datasets where it has them.
"""

from typing import NamedTuple

import numpy as np


class Partition(NamedTuple):
    """Owned examples.

    Attributes:
      index: `[N, M]` int32, each client's examples, padded with -1.
      count: `[N]` int32, how many each owns.
    """

    index: np.ndarray
    count: np.ndarray


def _pack(owned: list[np.ndarray]) -> Partition:
    count = np.array([len(one) for one in owned], np.int32)
    index = np.full((len(owned), max(1, count.max())), -1, np.int32)
    for row, one in zip(index, owned, strict=True):
        row[: len(one)] = one
    return Partition(index, count)


def _check(labels: np.ndarray, num_clients: int) -> None:
    if not 1 <= num_clients <= len(labels):
        raise ValueError(
            f"num_clients={num_clients}: expected 1 to {len(labels)}, the number of "
            "examples."
        )


def iid(
    rng: np.random.Generator, labels: np.ndarray, num_clients: int
) -> Partition:
    """All examples shuffled and dealt out evenly, sizes differing by at most one.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.

    Returns:
      A partition of all examples.

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
    """Examples sorted by label, cut into equal shards, a few dealt to each client.

    McMahan et al. (2017). Arguments and errors as for `iid`; every example is dealt.
    """
    _check(labels, num_clients * shards_per_client)
    order = rng.permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    pieces = np.array_split(by_label, num_clients * shards_per_client)
    dealt = rng.permutation(len(pieces)).reshape(num_clients, shards_per_client)
    return _pack([np.concatenate([pieces[p] for p in mine]) for mine in dealt])


def dirichlet(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    alpha: float,
    min_size: int = 10,
    max_retries: int = 100,
) -> Partition:
    """Each class divided among the clients by a draw from Dirichlet(alpha).

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      alpha: concentration > 0; small values give each class to few clients.
      min_size: draw again while a client has fewer examples.
      max_retries: give up after so many draws.

    Returns:
      A partition of all examples.

    Raises:
      ValueError: if a value is out of range, or no draw gave every client enough.
    """
    _check(labels, num_clients)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha}: expected a number > 0.")
    for _ in range(max_retries):
        owned: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = np.cumsum(rng.dirichlet(np.full(num_clients, alpha)))[:-1]
            cuts = (shares * len(members)).astype(int)
            for client, piece in enumerate(np.split(members, cuts)):
                owned[client].append(piece)
        partition = _pack([np.concatenate(pieces) for pieces in owned])
        if partition.count.min() >= min_size:
            return partition
    smallest = int(partition.count.argmin())
    raise ValueError(
        f"alpha={alpha}: after {max_retries} draws the smallest client, {smallest}, "
        f"has {partition.count[smallest]} of at least {min_size} examples; take a "
        "larger alpha, fewer clients or a smaller minimum."
    )


def pathological(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    classes_per_client: int = 2,
) -> Partition:
    """Every client sees only a few classes, each class shared out evenly.

    Classes are dealt in turn from shuffled decks, so that each is used as often as any
    other, to within one.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      classes_per_client: how many, from 1 to C.

    Returns:
      A partition; of all examples, unless there are fewer places than classes.

    Raises:
      ValueError: if a value is out of range or a class is too small to share.
    """
    _check(labels, num_clients)
    classes = np.unique(labels)
    if not 1 <= classes_per_client <= len(classes):
        raise ValueError(
            f"classes_per_client={classes_per_client}: expected 1 to {len(classes)}."
        )
    shuffled = rng.permutation(classes)
    places = np.arange(num_clients * classes_per_client)
    dealt = shuffled[places % len(classes)].reshape(num_clients, classes_per_client)
    owned: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in classes:
        takers = np.flatnonzero((dealt == label).any(axis=1))
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(takers) > len(members):
            raise ValueError(
                f"num_clients={num_clients}: class {label} has {len(members)} examples "
                f"for {len(takers)} clients."
            )
        if len(takers):
            for client, piece in zip(
                takers, np.array_split(members, len(takers)), strict=True
            ):
                owned[client].append(piece)
    return _pack([np.concatenate(pieces) for pieces in owned])


def mixed(
    rng: np.random.Generator,
    labels: np.ndarray,
    num_clients: int,
    *,
    major_share: float = 0.95,
) -> Partition:
    """Most of each client's data from its own stretch of the labels, the rest iid.

    FedLP's mix (reconstructed): a share of all examples is dealt as one shard of the
    label-sorted list for each client, the remainder evenly at random.

    Args:
      rng: source of randomness.
      labels: `[n]`.
      num_clients: N.
      major_share: share dealt by label, in [0, 1].

    Returns:
      A partition of all examples.

    Raises:
      ValueError: if a value is out of range.
    """
    _check(labels, num_clients)
    if not 0 <= major_share <= 1:
        raise ValueError(f"major_share={major_share}: expected a number in [0, 1].")
    order = rng.permutation(len(labels))
    major, minor = np.split(order, [round(major_share * len(order))])
    by_label = major[np.argsort(labels[major], kind="stable")]
    own = np.array_split(by_label, num_clients)
    rest = np.array_split(minor, num_clients)[::-1]
    takers = rng.permutation(num_clients)
    return _pack([np.concatenate([own[t], rest[t]]) for t in takers])


def label_histogram(
    partition: Partition, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """`[N, C]` int, how many examples of each class each client owns."""
    return np.stack(
        [
            np.bincount(labels[mine[:count]], minlength=num_classes)
            for mine, count in zip(partition.index, partition.count, strict=True)
        ]
    )


def label_skew(histogram: np.ndarray) -> float:
    """How far the clients' label distributions lie from the pooled one, in [0, 1].

    `(1/N) sum_k (1/2) sum_c |P_k(c) - P(c)|`, the mean total-variation distance.

    Args:
      histogram: `[N, C]`, every client with at least one example.

    Returns:
      0 if all distributions are equal; 1 - 1/C for one class each, classes equal.
    """
    own = histogram / histogram.sum(axis=1, keepdims=True)
    pooled = histogram.sum(axis=0) / histogram.sum()
    return float(0.5 * np.abs(own - pooled[None]).sum(axis=1).mean())
