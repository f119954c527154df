"""How unevenly the labels of a data set are partitioned."""

import numpy as np

from fedjax_sl.data.partition import Partition


def label_histogram(
    partition: Partition, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts the examples of each class that each client owns.

    Args:
      partition: of N clients.
      labels: `[n]`, in 0..C-1.
      num_classes: C.

    Returns:
      `[N, C]` int64.
    """
    owner, column = np.nonzero(partition.index >= 0)
    histogram = np.zeros((len(partition.count), num_classes), int)
    # `+=` would count a repeated pair once.
    np.add.at(histogram, (owner, labels[partition.index[owner, column]]), 1)
    return histogram


def label_skew(histogram: np.ndarray) -> float:
    """Computes the mean distance of clients' label distributions from the pooled one.

    The mean total-variation distance, (1/N) sum_k (1/2) sum_c |p_k(c) - p(c)|, in
    [0, 1], with p_k(c) the share of class c among client k's examples and p(c) among
    all. Clients without examples are skipped.

    Args:
      histogram: `[N, C]`, as from `label_histogram`.

    Returns:
      0 if all clients have the same distribution; 1 - 1/C if each has a single class
      and all classes are equally frequent.
    """
    # 0 / 0 of a client without examples would make the mean NaN.
    own = histogram[histogram.sum(axis=1) > 0]
    shares = own / own.sum(axis=1, keepdims=True)
    pooled = own.sum(axis=0) / own.sum()
    return float(np.abs(shares - pooled).sum(axis=1).mean() / 2)
