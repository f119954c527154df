"""The Pareto front of settings that cost something and gain something."""

import numpy as np


def pareto_front(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The points that no other equals or beats in both.

    Args:
      cost: `[n]`, the less the better.
      gain: `[n]`, the more the better.

    Returns:
      Places of the points of the front, by rising cost and gain.
    """
    order = np.lexsort((-gain, cost))
    best = np.maximum.accumulate(np.concatenate(([-np.inf], gain[order][:-1])))
    return order[gain[order] > best]
