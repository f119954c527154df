"""What theory says of FedLP-Q: convergence, code lengths, entropy.

Propositions 1 and 2 and Definition 1 of Entropy 2023, 25, 1205, as reconstructed: the
printed statements were not available. Plain numbers and NumPy, in 64 bits, after a run.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression.coding import MAX_BITS, NORM_BITS, Code, elias_lengths


class Participation(NamedTuple):
    """How many of K clients send a layer that each keeps with probability p, A of them.

    Attributes:
      anyone: pi = P(A >= 1) = 1 - (1 - p)^K.
      inverse: E[1/A; A >= 1].
      spread: E[(K - A) / (A (K - 1)); A >= 1].
    """

    anyone: float
    inverse: float
    spread: float


def participation(keep_probability: float, cohort_size: int) -> Participation:
    """The moments of A ~ Bin(K, p) that Proposition 1 needs.

    Args:
      keep_probability: p, in (0, 1].
      cohort_size: K, >= 1.

    Returns:
      A `Participation`.
    """
    p, k = keep_probability, cohort_size
    a = np.arange(1, k + 1)
    chance = np.array([math.comb(k, n) * p**n * (1 - p) ** (k - n) for n in a])
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
    start = 2 * gap / (anyone * eta * steps * rounds)
    noise = beta * eta * steps * ((1 + np.asarray(variance_bound)) * squares).sum()
    drift = beta**2 * eta**2 * squares.sum() * (steps - 1) * (2 * steps - 1) / 6
    return float(start + noise + drift)


_PER_ELEMENT: dict[Code, tuple[float, float]] = {
    "gamma": (2.0, 2.0),
    "omega": (2.0, 2.5),
    "delta": (2.0, 3.0),
}
"""Bits of an element with its sign: at most first + second * log2(index + 1)."""


def code_length_bound(
    size: int,
    mean_level: float,
    *,
    bits: int,
    keep_probability: float = 1.0,
    code: Code = "omega",
) -> float:
    """A bound on the average bits of a layer's message (Proposition 2).

    `p (32 + |Elias(b)| + M (2 + c log2(1 + m)))`, c = 2 for gamma, 2.5 for
    omega and 3 for delta: no codeword is longer than 1 + c log2 k, and the logarithm is
    concave.

    Args:
      size: M.
      mean_level: m, the mean of the indices |level|. With those realised the bound
        holds for the message at hand; with `expected_mean_level` for its expectation.
      bits: b.
      keep_probability: p, of the layer being sent at all.
      code: which Elias code.

    Returns:
      The bound.
    """
    check_choice("code", code, Code)
    check_integer("bits", bits, 1, MAX_BITS)
    constant, factor = _PER_ELEMENT[code]
    header = NORM_BITS + int(elias_lengths(bits, code=code))
    payload = size * (constant + factor * math.log2(1 + mean_level))
    return keep_probability * (header + payload)


def expected_mean_level(displacement: np.ndarray, *, bits: int) -> float:
    """E of the mean index of a quantised layer, `2^b |g|_1 / (M |g|_2)`.

    Args:
      displacement: g, any shape.
      bits: b.

    Returns:
      At most 2^b / sqrt(M); 0 for a zero layer.
    """
    g = np.abs(np.asarray(displacement, np.float64)).reshape(-1)
    norm = np.sqrt((g * g).sum())
    return float(2**bits * g.sum() / (g.size * norm)) if norm > 0 else 0.0


def entropy(levels: np.ndarray) -> float:
    """The entropy of a layer's signed indices, `-sum_v f_v log2 f_v` (Definition 1).

    Args:
      levels: `[M]` integers.

    Returns:
      Bits per element; no code of single elements is shorter.
    """
    _, counts = np.unique(np.asarray(levels), return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() + 0.0)


def code_length(levels: np.ndarray, *, bits: int, code: Code = "omega") -> int:
    """Bits of a layer's message, from its indices alone.

    Args:
      levels: `[M]` integers.
      bits: b.
      code: which Elias code.

    Returns:
      As `message_bits`, on the host and in 64 bits.
    """
    check_choice("code", code, Code)
    check_integer("bits", bits, 1, MAX_BITS)
    found, counts = np.unique(np.abs(np.asarray(levels)), return_counts=True)
    header = NORM_BITS + int(elias_lengths(bits, code=code))
    lengths = np.asarray(elias_lengths(found + 1, code=code), np.int64) + 1
    return header + int(lengths @ counts)
