"""Lloyd-Max levels of the standard normal distribution."""

import functools

import numpy as np


@functools.cache
def normal_levels(bits: int) -> np.ndarray:
    """The 2^b levels of least expected squared error for N(0, 1) (Max 1960).

    Each level is the mean of the distribution between the midpoints to its neighbours.

    Args:
      bits: b, 1 to 8.

    Returns:
      `[2^b]` float32, ascending.
    """
    # Late: it takes half a second, and few runs need it.
    from scipy.special import ndtr, ndtri

    # Begun at quantiles, which are distinct and ordered, as Lloyd's levels are.
    levels = ndtri((np.arange(2**bits) + 0.5) / 2**bits)
    # Lloyd's iteration converges linearly, the slower the more levels there are.
    for _ in range(200 * 2**bits):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        # `scipy.stats.norm` has the same values, but checks its arguments for longer
        # than it computes: 10 s for all bits instead of 1 s.
        mass = np.diff(ndtr(edges))
        means = -np.diff(np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)) / mass
        # Levels are float32 in the end, whose last digit is larger.
        if np.abs(means - levels).max() < 1e-9:
            break
        levels = means
    # Symmetric in truth, and so in the last bit.
    return ((levels - levels[::-1]) / 2).astype(np.float32)
