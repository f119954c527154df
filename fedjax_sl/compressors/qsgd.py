"""QSGD: uniform levels between 0 and a norm, with a sign."""

from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression.coding import (
    MAX_BITS,
    NORM_BITS,
    Code,
    Message,
    decode,
    elias_lengths,
    encode,
)
from fedjax_sl.compression.packing import unpacked
from fedjax_sl.compression.quantization import (
    Norm,
    Quantized,
    bits_from_levels,
    dequantize,
    levels_from_bits,
    quantize,
)
from fedjax_sl.compression.rounding import Rounding
from fedjax_sl.compressors.compressor import Compressor, Levels, Wire
from fedjax_sl.compressors.fixed import fixed_wire
from fedjax_sl.compressors.range import range_wire
from fedjax_sl.compressors.rice import MOST_BITS as RICE_BITS
from fedjax_sl.compressors.rice import rice_wire
from fedjax_sl.errors import InputError


MOST_BITS = 24
"""float32 holds integers of up to so many bits exactly."""

Coder = Literal["fixed", "rice", "range", Code]
"""Levels of b bits each; a Golomb-Rice or a range code; or a message of an Elias
code."""


def _signed(coder: Coder) -> bool:
    """Whether a level is coded with its sign, not apart from it."""
    check_choice("coder", coder, Coder)
    return coder in ("fixed", "rice", "range")


def levels_of_bits(bits: Any, coder: Coder) -> Any:
    """Returns s, the levels of b bits in a code; integers, or traced values."""
    return levels_from_bits(bits, signed=_signed(coder))


def most_levels(coder: Coder) -> int:
    """Returns the largest s of a code."""
    most = {"fixed": MOST_BITS, "range": MOST_BITS, "rice": RICE_BITS}
    return levels_of_bits(most.get(coder, MAX_BITS), coder)


def qsgd(
    *,
    bits: Any = 8,
    levels: Any = None,
    norm: Norm = "max",
    rounding: Rounding = "stochastic",
    coder: Coder = "fixed",
) -> Compressor:
    """QSGD (Alistarh et al. 2017, eq. (4)): `norm sgn(x) l / s`, unbiased.

    l is s |x| / norm, rounded up or down at random. With levels of fixed width, or in a
    Golomb-Rice or range code, s = 2^(b-1) - 1 (with the max norm the quantiser of arXiv
    2412.06414); in an Elias code, which writes the sign apart, s = 2^b (with the 2-norm
    that of Entropy 2023, 25, 1205).
    E|C(x) - x|^2 <= min(n / (4 s^2), sqrt(n) / s) |x|^2.

    Args:
      bits: b, 2 to 24; 2 to 12 in a Golomb-Rice and 1 to 16 in an Elias code. May be
        traced.
      levels: s in place of b, any integer from 1 to `most_levels`; may be traced. A
        level then takes the fewest bits that have room for it.
      norm: the largest magnitude, or the 2-norm, whose squares are float32: infinite
        above 1e19, and 0 below 1e-19.
      rounding: how a position between two levels becomes one.
      coder: of the levels.

    Returns:
      The compressor; its payload is a `Quantized`.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_choice("norm", norm, Norm)
    check_choice("rounding", rounding, Rounding)
    check_choice("coder", coder, Coder)
    if levels is None:
        # A sign takes one of the bits, but in Elias codes, which write it apart.
        signed = _signed(coder)
        check_integer("bits", bits, *((2, MOST_BITS) if signed else (1, MAX_BITS)))
        levels = levels_of_bits(bits, coder)
    else:
        check_integer("levels", levels, 1, most_levels(coder))
        bits = bits_from_levels(levels, signed=_signed(coder))

    def compress(key, x, mask, state):
        # Outside the mask nothing may enter the norm.
        kept = jnp.where(mask, x, 0.0)
        return quantize(key, kept, levels=levels, norm=norm, rounding=rounding), state

    def decompress(key, payload, mask):
        values = dequantize(payload, levels=levels, rounding=rounding)
        return jnp.where(mask, values, 0.0)

    wire = levels_wire(coder=coder, bits=bits, levels=levels)
    return Compressor(compress, decompress, wire, levels=levels_of_quantized(levels))


def levels_of_quantized(levels: Any) -> Levels:
    """Returns the levels in -s..s of a `Quantized`, in each code that has room for s.

    Args:
      levels: s; may be traced where no code is asked for.
    """

    def sent(payload, mask):
        return np.asarray(payload.level)[np.asarray(mask)]

    def wires():
        most = int(levels)
        coders = [coder for coder in get_args(Coder) if most <= most_levels(coder)]
        return {coder: narrowest_wire(most, coder=coder) for coder in coders}

    return Levels(sent, wires)


def narrowest_wire(levels: Any, *, coder: Coder) -> Wire:
    """Returns `levels_wire` of the fewest bits that have room for levels in -s..s.

    Args:
      levels: s; may be traced where nothing is encoded.
      coder: of the levels.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_integer("levels", levels, 1, most_levels(coder))
    bits = bits_from_levels(levels, signed=_signed(coder))
    return levels_wire(coder=coder, bits=bits, levels=levels)


def levels_wire(*, coder: Coder, bits: Any, levels: Any) -> Wire:
    """Returns the wire of levels in -s..s and their norm, a `Quantized`.

    Args:
      coder: of the levels.
      bits: b, in which 2 s + 1 levels have room; in an Elias code s <= 2^b. May be
        traced where nothing is encoded.
      levels: s.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_choice("coder", coder, Coder)
    if coder == "fixed":
        return fixed_wire(
            bits=bits,
            scales=1,
            # Levels in -s..s are 2 s + 1 codes.
            to_codes=lambda payload: ([payload.norm], payload.level + levels),
            of_codes=lambda scales, codes: Quantized(scales[0], codes - levels),
            num_codes=2 * levels + 1,
        )
    if coder in ("rice", "range"):
        return (rice_wire if coder == "rice" else range_wire)(
            bits=bits,
            scales=1,
            # Small magnitudes first: 0, 1, -1, 2, -2, ...
            to_codes=lambda payload: ([payload.norm], _folded(payload.level)),
            of_codes=lambda scales, codes: Quantized(scales[0], _unfolded(codes)),
            num_codes=2 * levels + 1,
        )
    return _elias(bits, levels, coder)


def _folded(level: Any) -> Any:
    """0, 1, -1, 2, -2, ... as 0, 1, 2, 3, 4, ..."""
    return abs(2 * level) - (level > 0)


def _unfolded(code: Any) -> Any:
    """Inverts `_folded`."""
    return (1 - 2 * (code % 2 == 0)) * ((code + 1) // 2)


def _elias(bits: Any, last: Any, code: Code) -> Wire:
    """The message of Entropy 2023, 25, 1205, of levels in -s..s in the mask."""

    def count(payload, mask):
        # A level's codeword and its sign.
        # Elias codes begin at 1, levels at 0. Algorithm 1 writes a sign for level 0,
        # too.
        lengths = elias_lengths(jnp.abs(payload.level) + 1, code=code) + 1
        return _coded(jnp.where(mask, lengths, 0).sum(), mask.sum())

    def most(entries, size):
        longest = elias_lengths(jnp.asarray(last) + 1, code=code) + 1
        entries = jnp.asarray(entries, jnp.int32)
        return _coded(entries * longest, entries)

    def _coded(length, entries):
        none = jnp.zeros_like(length)
        side = NORM_BITS + elias_lengths(bits, code=code)
        # Without an entry no header is sent either.
        return Link(none, none, length, jnp.where(entries > 0, side, none))

    def encoded(payload, mask):
        levels = np.asarray(payload.level)[np.asarray(mask)]
        if not levels.size:
            return Message(b"", 0)
        return encode(Quantized(payload.norm, levels), bits=int(bits), code=code)  # type: ignore[arg-type]

    def decoded(key, message, mask):
        kept = np.asarray(mask)
        if not kept.any():
            unpacked(message, [0])
            return Quantized(np.float32(0), np.zeros(kept.shape, np.int32))  # type: ignore[arg-type]
        found, b = decode(message, code=code)
        if b != int(bits) or len(found.level) != kept.sum():
            raise InputError(
                f"the message holds {len(found.level)} levels of {b} bits: expected "
                f"{kept.sum()} of {int(bits)}."
            )
        # The message has room for levels up to 2^b, and s may be less.
        if np.abs(found.level).max() > int(last):
            raise InputError(f"the message holds a level above {int(last)}.")
        levels = np.zeros(kept.shape, np.int32)
        levels[kept] = found.level
        return Quantized(found.norm, levels)  # type: ignore[arg-type]

    return Wire(count, most, encoded, decoded)
