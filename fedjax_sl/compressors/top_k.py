"""Top-k: the largest entries."""

from typing import Any

import jax.numpy as jnp

from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.compressors.identity import identity
from fedjax_sl.compressors.sparse import Selection, chain, largest


def top_k(*, keep: Any = 0.1, values: Compressor | None = None) -> Compressor:
    """Sends the k = floor(keep n) entries of largest magnitude, with their positions.

    Biased: a contraction, |C(x) - x|^2 <= (1 - k / n) |x|^2 (Stich et al. 2018).

    Args:
      keep: share of the entries, in (0, 1]; may be traced.
      values: how they are sent; as float32 if not given.

    Returns:
      The compressor; its payload is a `Sparse`.

    Raises:
      ValueError: if the share is out of range.
    """

    def choose(key, x, mask, number):
        return largest(jnp.abs(x), mask, number)

    return chain(Selection(choose, keep), values or identity())
