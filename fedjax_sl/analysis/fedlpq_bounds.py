"""Convergence bounds of FedLP-Q.

Proposition 1 of Entropy 2023, 25, 1205, as reconstructed: the printed statement was not
available. Computed with NumPy, in 64 bits, after a run.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import special


class Participation(NamedTuple):
    """Moments of A, the number of K clients that send a layer kept with probability p.

    Attributes:
      anyone: pi = P(A >= 1) = 1 - (1 - p)^K.
      inverse: E[1/A; A >= 1].
      spread: E[(K - A) / (A (K - 1)); A >= 1].
    """

    anyone: float
    inverse: float
    spread: float


def participation(keep_probability: float, cohort_size: int) -> Participation:
    """Returns the moments of A ~ Bin(K, p) that Proposition 1 needs.

    Args:
      keep_probability: p, in (0, 1].
      cohort_size: K, >= 1.

    Returns:
      A `Participation`.
    """
    p, k = keep_probability, cohort_size
    a = np.arange(1, k + 1)
    # By logarithms: the binomial coefficient of a thousand clients overflows.
    ways = special.gammaln(k + 1) - special.gammaln(a + 1) - special.gammaln(k - a + 1)
    chance = np.exp(ways + special.xlogy(a, p) + special.xlog1py(k - a, -p))
    # For K = 1 the numerator is 0, too.
    spread = (k - a) / (a * max(k - 1, 1))
    return Participation(
        1 - (1 - p) ** k, float(chance @ (1 / a)), float(chance @ spread)
    )


def expected_update(displacements: np.ndarray, keep_probability: float) -> np.ndarray:
    """E[u] = pi mean_k g_k, of a layer as the server aggregates it (Proposition 1 (a)).

    Args:
      displacements: g_k, `[K, M]`.
      keep_probability: p.

    Returns:
      `[M]`.
    """
    clients = len(displacements)
    anyone = participation(keep_probability, clients).anyone
    return anyone * np.asarray(displacements, np.float64).mean(axis=0)


def update_error(
    displacements: np.ndarray, keep_probability: float, quantization_variance: Any
) -> float:
    """E|u - mean_k g_k|^2 of an aggregated layer (Proposition 1 (b)).

    `(1 - pi) |g|^2 + E[1/A; A >= 1] q + E[(K - A) / (A (K - 1)); A >= 1] V`, with g the
    mean of the g_k, q the mean of their quantisation variances and V that of
    |g_k - g|^2; equal weights.

    Args:
      displacements: g_k, `[K, M]`.
      keep_probability: p.
      quantization_variance: E|Q(g_k) - g_k|^2, `[K]` or one number.

    Returns:
      The expected squared error.
    """
    g = np.asarray(displacements, np.float64)
    mean = g.mean(axis=0)
    moments = participation(keep_probability, len(g))
    variance = ((g - mean) ** 2).sum(axis=1).mean()
    quantization = np.mean(quantization_variance, dtype=np.float64)
    return float(
        (1 - moments.anyone) * (mean @ mean)
        + moments.inverse * quantization
        + moments.spread * variance
    )


def convergence_rate(
    *,
    rounds: int,
    local_steps: int,
    learning_rate: float,
    smoothness: float,
    gap: float,
    gradient_bound: np.ndarray,
    variance_bound: np.ndarray,
    keep_probability: float,
    cohort_size: int,
) -> float:
    """A bound on (1/T) sum_t E|grad f|^2 of homogeneous FedLP-Q (Proposition 1 (c)).

    `2 gap / (pi eta E T) + beta eta E sum_l (1 + alpha_l) G_l^2
    + beta^2 eta^2 G^2 (E - 1)(2E - 1) / 6`.

    Args:
      rounds: T.
      local_steps: E, of SGD in a round.
      learning_rate: eta.
      smoothness: beta.
      gap: f(theta_0) - min f.
      gradient_bound: G_l, `[L]`.
      variance_bound: alpha_l, `[L]`, as from `variance_bound`.
      keep_probability: p.
      cohort_size: K.

    Returns:
      The bound. The factor pi cancels in the noise.
    """
    eta, steps, beta = learning_rate, local_steps, smoothness
    squares = np.asarray(gradient_bound, np.float64) ** 2
    anyone = participation(keep_probability, cohort_size).anyone
    # A layer that nobody sends does not move: of the rounds a share pi counts.
    start = 2 * gap / (anyone * eta * steps * rounds)
    # No 1 / K: E|u|^2 is bounded by Jensen's inequality, which is loose here.
    noise = beta * eta * steps * ((1 + np.asarray(variance_bound)) * squares).sum()
    drift = beta**2 * eta**2 * squares.sum() * (steps - 1) * (2 * steps - 1) / 6
    return float(start + noise + drift)
