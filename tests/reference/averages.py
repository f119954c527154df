"""Means over clients of flat dicts, entry by entry."""

import math

import numpy as np


def keepers_mean(values, weights, kept, fallback):
    """sum_k omega_k m_k x_k / sum_k omega_k m_k, else the fallback.

    Args:
      values: of each client, one array.
      weights: omega_k.
      kept: m_k of each client, broadcasts against the values.
      fallback: where nobody kept an entry.
    """
    kept = [np.broadcast_to(m, np.shape(fallback)) for m in kept]
    total = sum((w * m for w, m in zip(weights, kept, strict=True)), 0 * fallback)
    part = zip(values, weights, kept, strict=True)
    above = sum((np.where(m, w * x, 0) for x, w, m in part), 0 * fallback)
    return np.where(total > 0, above / np.where(total > 0, total, 1), fallback)


def trimmed_mean(values, kept, fallback, trim):
    """The mean of the values kept, without the share `trim` of them at either end."""
    found = np.array(fallback)
    kept = [np.broadcast_to(m, found.shape) for m in kept]
    for place in np.ndindex(found.shape):
        ranked = sorted(x[place] for x, m in zip(values, kept, strict=True) if m[place])
        cut = min(math.floor(trim * len(ranked)), (len(ranked) - 1) // 2)
        if ranked:
            found[place] = np.mean(ranked[cut : len(ranked) - cut])
    return found


def length(update):
    """The 2-norm over all arrays."""
    return math.sqrt(sum(float((u**2).sum()) for u in update.values()))


def clipped(update, most):
    """u min(1, C / |u|)."""
    size = length(update)
    factor = 1.0 if most is None or size <= most else most / size
    return {n: factor * u for n, u in update.items()}
