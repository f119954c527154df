"""Random-k: entries that both ends draw from a shared key."""

from typing import Any

import jax.numpy as jnp

from fedjax_sl.compression import draws
from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.compressors.identity import identity
from fedjax_sl.compressors.sparse import Selection, chain, largest


def _choose(key, x, mask, number):
    # Without a look at x, so that the receiver draws the same from the key.
    return largest(draws.uniform(key, x.shape), mask, number)


def random_k(
    *, keep: Any = 0.1, values: Compressor | None = None, unbiased: bool = True
) -> Compressor:
    """Sends k = floor(keep n) entries drawn without replacement, times n / k.

    Unbiased, E|C(x) - x|^2 = (n / k - 1) |x|^2 (Wangni et al. 2018, with equal
    probabilities). Without the factor a contraction, by 1 - k / n on average. No
    position is sent.

    Args:
      keep: share of the entries, in (0, 1]; may be traced.
      values: how they are sent; as float32 if not given.
      unbiased: whether entries are sent times n / k.

    Returns:
      The compressor; its payload is a `Sparse`.

    Raises:
      ValueError: if the share is out of range.
    """

    def factor(entries, number):
        # An empty mask sends nothing: n / k is 0 there, not 0 / 0.
        return entries / jnp.maximum(number, 1) if unbiased else 1.0

    selection = Selection(_choose, keep, known=True, factor=factor)
    return chain(selection, values or identity())
