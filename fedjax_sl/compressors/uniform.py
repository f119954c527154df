"""Uniform levels between the smallest and the largest entry."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression import draws
from fedjax_sl.compression.rounding import Rounding, rebuilt, rounded
from fedjax_sl.compressors.compressor import Compressor, Levels, Wire
from fedjax_sl.compressors.fixed import fixed_wire
from fedjax_sl.compressors.qsgd import MOST_BITS
from fedjax_sl.compressors.range import range_wire
from fedjax_sl.compressors.rice import MOST_BITS as RICE_BITS
from fedjax_sl.compressors.rice import rice_wire


Coder = Literal["fixed", "rice", "range"]

_WIRES = {
    "fixed": fixed_wire,
    "rice": rice_wire,
    "range": range_wire,
}


class OnRange(NamedTuple):
    """Levels between two ends.

    Attributes:
      low, high: [], the smallest and the largest entry.
      level: `[...]` int32, in 0..s.
    """

    low: jax.Array
    high: jax.Array
    level: jax.Array


def uniform(
    *,
    bits: Any = 8,
    rounding: Rounding = "stochastic",
    coder: Coder = "fixed",
) -> Compressor:
    """Levels between the extreme entries, `low + (high - low) l / s`, s = 2^b - 1.

    No bit is a sign, so that entries of one sign, such as activations after a ReLU, get
    twice the levels of `qsgd`. If rounding is stochastic, unbiased, with
    E|C(x) - x|^2 <= n (high - low)^2 / (4 s^2).

    Args:
      bits: b, 1 to 24; may be traced.
      rounding: how a position between two levels becomes one; of "floor", what lies on
        a level may become the one below, as levels between two ends are rounded.
      coder: of the levels: of b bits each; Golomb-Rice, which is shorter where small
        levels are common, b at most 12; or a range code, about as short as the entropy
        of the levels.

    Returns:
      The compressor; its payload is an `OnRange`.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_choice("rounding", rounding, Rounding)
    check_choice("coder", coder, Coder)
    check_integer("bits", bits, 1, MOST_BITS)
    # No operation of JAX yet: a configuration is checked before devices are chosen.
    levels = (1 << bits) - 1

    def compress(key, x, mask, state):
        some = mask.any()
        # Of an empty mask the ends would be infinite.
        low = jnp.where(some, jnp.where(mask, x, jnp.inf).min(), 0.0)
        high = jnp.where(some, jnp.where(mask, x, -jnp.inf).max(), 0.0)
        # Halved: the span of two huge ends of either sign is no float32.
        half = high / 2 - low / 2
        at = (x / 2 - low / 2) / jnp.where(half > 0, half, 1.0) * levels
        # Rounding may put the largest entry above s.
        at = jnp.clip(jnp.where(mask, at, 0.0), 0.0, jnp.asarray(levels, jnp.float32))
        draw = draws.uniform(key, x.shape)
        return OnRange(low, high, rounded(draw, at, rounding).astype(jnp.int32)), state

    def decompress(key, payload, mask):
        share = rebuilt(payload.level, levels, rounding) / levels
        # A mean of the ends: their difference need not be a float32.
        values = payload.low * (1 - share) + payload.high * share
        return jnp.where(mask, values, 0.0)

    wire = _wire(_WIRES[coder], bits)
    return Compressor(compress, decompress, wire, levels=_levels(bits))


def _wire(in_code: Callable[..., Wire], bits: Any) -> Wire:
    """The wire of the two ends, and of levels of b bits in a code."""
    return in_code(
        bits=bits,
        scales=2,
        to_codes=lambda payload: ([payload.low, payload.high], payload.level),
        of_codes=lambda scales, codes: OnRange(
            scales[0], scales[1], jnp.asarray(codes, jnp.int32)
        ),
        num_codes=1 << bits,
    )


def _levels(bits: Any) -> Levels:
    """The levels of b bits, in each code that has room for them."""

    def sent(payload, mask):
        return np.asarray(payload.level)[np.asarray(mask)]

    def wires():
        return {
            coder: _wire(in_code, int(bits))
            for coder, in_code in _WIRES.items()
            if coder != "rice" or bits <= RICE_BITS
        }

    return Levels(sent, wires)
