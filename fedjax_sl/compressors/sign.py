"""One bit an entry: its sign, with the mean magnitude."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.compressors.fixed import fixed_wire


class Signs(NamedTuple):
    """Signs and their common magnitude.

    Attributes:
      scale: [].
      positive: `[...]` bool.
    """

    scale: jax.Array
    positive: jax.Array


def _compress(key, x, mask, state):
    kept = jnp.where(mask, x, 0.0)
    entries = jnp.maximum(mask.sum(), 1)
    # Divided before they are summed, which could pass the largest float32.
    # One bit has no third value: sgn(0) = 1, with which the error's formula holds.
    return Signs(jnp.abs(kept / entries).sum(), kept >= 0), state


def _decompress(key, payload, mask):
    values = jnp.where(payload.positive, payload.scale, -payload.scale)
    return jnp.where(mask, values, 0.0)


def sign() -> Compressor:
    """Scaled signs, `sgn(x) |x|_1 / n` (Seide et al. 2014; Karimireddy et al. 2019).

    Biased: a contraction, |C(x) - x|^2 = (1 - |x|_1^2 / (n |x|^2)) |x|^2. Made for
    error feedback.

    Returns:
      The compressor; its payload is a `Signs`.
    """
    wire = fixed_wire(
        bits=1,
        scales=1,
        to_codes=lambda payload: ([payload.scale], payload.positive.astype(int)),
        of_codes=lambda scales, codes: Signs(scales[0], codes == 1),
        num_codes=2,
    )
    return Compressor(_compress, _decompress, wire)
