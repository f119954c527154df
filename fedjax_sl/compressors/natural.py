"""Natural compression: powers of two."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression import draws
from fedjax_sl.compressors.compressor import Compressor, Levels, Wire
from fedjax_sl.compressors.fixed import fixed_wire
from fedjax_sl.compressors.range import range_wire
from fedjax_sl.errors import InputError


class Powers(NamedTuple):
    """Signed powers of two.

    Attributes:
      code: `[...]` int32; the sign times 256, plus a float32's biased exponent.
    """

    code: jax.Array


MANTISSA, SIGN, LARGEST = 23, 256, 254


def _compress(key, x, mask, state):
    kept = jnp.where(mask, x, 0.0)
    word = jax.lax.bitcast_convert_type(jnp.abs(kept), jnp.int32)
    exponent = word >> MANTISSA
    # What lies above the lower power, as a share of it; below 2^-126 that power is 0,
    # and the share is the mantissa all the same.
    share = (word & ((1 << MANTISSA) - 1)).astype(jnp.float32) / (1 << MANTISSA)
    # Up with this probability, the mean of both powers is the entry.
    up = draws.uniform(key, x.shape) < share
    rounded = jnp.minimum(exponent + up, LARGEST)
    # A payload of what is no number would be one: it stays none.
    rounded = jnp.where(jnp.isfinite(kept), rounded, LARGEST + 1)
    return Powers(jnp.where(kept < 0, SIGN, 0) + rounded), state


def _decompress(key, payload, mask):
    word = (payload.code % SIGN) << MANTISSA
    values = jax.lax.bitcast_convert_type(word, jnp.float32)
    values = jnp.where(payload.code >= SIGN, -values, values)
    return jnp.where(mask, values, 0.0)


def _checked(codes: np.ndarray) -> np.ndarray:
    """Rejects powers that are no float32 numbers."""
    if (codes % SIGN > LARGEST).any():
        raise InputError("powers: expected finite numbers, found nan or infinity.")
    return codes


def natural() -> Compressor:
    """Rounds to one of the two nearest powers of two (Horvath et al. 2019).

    Unbiased, E|C(x) - x|^2 <= |x|^2 / 8; 9 bits, of which one is the sign. Entries
    above 2^127 become 2^127: the next power is no float32.

    Returns:
      The compressor; its payload is a `Powers`.
    """
    return Compressor(_compress, _decompress, _wire(fixed_wire), levels=_levels())


def _wire(in_code: Callable[..., Wire]) -> Wire:
    """The wire of powers in a code."""
    return in_code(
        bits=9,
        scales=0,
        to_codes=lambda payload: ([], _checked(payload.code)),
        of_codes=lambda scales, codes: Powers(jnp.asarray(_checked(codes), jnp.int32)),
        num_codes=2 * SIGN,
    )


def _levels() -> Levels:
    """The powers and their signs; not in Golomb-Rice, as none of them is small."""

    def sent(payload, mask):
        return np.asarray(payload.code)[np.asarray(mask)]

    return Levels(
        sent, lambda: {"fixed": _wire(fixed_wire), "range": _wire(range_wire)}
    )
