"""The length of a layer's message, its entropy, and a bound on the length.

Proposition 2 and Definition 1 of Entropy 2023, 25, 1205, as reconstructed: the printed
statements were not available. Plain numbers and NumPy, in 64 bits, after a run.
"""

import math

import numpy as np

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression.coding import MAX_BITS, NORM_BITS, Code, elias_lengths


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
    """Bounds the average bits of a layer's message (Proposition 2).

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
    """Computes E of the mean index of a quantised layer, `2^b |g|_1 / (M |g|_2)`.

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
    """Computes the entropy of signed indices, `-sum_v f_v log2 f_v` (Definition 1).

    Args:
      levels: `[M]` integers.

    Returns:
      Bits per element; no code of single elements is shorter.
    """
    _, counts = np.unique(np.asarray(levels), return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() + 0.0)  # 0, not -0


def code_length(levels: np.ndarray, *, bits: int, code: Code = "omega") -> int:
    """Counts the bits of a layer's message from its indices.

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
    # One codeword length per distinct index; every element has a sign bit.
    lengths = np.asarray(elias_lengths(found + 1, code=code), np.int64) + 1
    return header + int(lengths @ counts)
