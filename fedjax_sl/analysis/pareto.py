"""The Pareto front of cost against gain."""

import numpy as np


def pareto_front(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Returns the points that no other point equals or beats in both.

    Args:
      cost: `[n]`, less is better.
      gain: `[n]`, more is better.

    Returns:
      Indices of the points of the front, by rising cost and gain.
    """
    # At equal cost the highest gain comes first, so that it hides the others.
    order = np.lexsort((-gain, cost))
    best = np.maximum.accumulate(np.concatenate(([-np.inf], gain[order][:-1])))
    return order[gain[order] > best]
