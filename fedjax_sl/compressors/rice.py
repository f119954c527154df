"""Wires of a code whose length follows the values: Golomb-Rice, or fixed if shorter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.golomb_rice import read_rice, rice_flags
from fedjax_sl.compression.packing import (
    from_flags,
    of_floats,
    packed,
    to_flags,
    to_floats,
    unpacked,
)
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Wire
from fedjax_sl.compressors.fixed import OfCodes, ToCodes
from fedjax_sl.errors import InputError


MOST_BITS = 12
"""Of a code: the choice of m compares with every power of two."""

LONGEST = 64
"""Ones in front of an entry, at most; otherwise all codes are written as they are."""

HEADER = 4
"""Bits of m; the largest number says that codes have b bits each."""

FIXED = 2**HEADER - 1


def _choice(codes: Any, mask: Any, bits: Any, numpy: Any = jnp) -> tuple[Any, Any]:
    """Chooses m, and counts the bits of all codes, by `jnp` or by `np`.

    Codes of a geometric distribution are shortest with the smallest m for which a share
    of at most 0.618 is 2^m or more.
    """
    entries = mask.sum(dtype=np.int32)
    powers = 1 << np.arange(MOST_BITS)
    # All counts are integers, so that the encoder on the host chooses the same.
    above = numpy.stack([((codes >= p) & mask).sum(dtype=np.int32) for p in powers])
    m = (13 * above > 8 * entries).sum(dtype=np.int32)
    ones = numpy.where(mask, codes >> m, 0)
    length = numpy.minimum(ones, LONGEST).sum(dtype=np.int32) + entries * (1 + m)
    shorter = (ones.max(initial=0) <= LONGEST) & (length < entries * bits)
    return numpy.where(shorter, m, FIXED), numpy.where(shorter, length, entries * bits)


def rice_wire(
    *, bits: Any, scales: int, to_codes: ToCodes, of_codes: OfCodes, num_codes: Any
) -> Wire:
    """A wire as `fixed_wire`, whose codes are shorter where small ones are common.

    m follows from the codes and is sent, so that a message is never longer than that of
    `fixed_wire` by more than 4 bits. For arrays of fewer than 2^25 entries.

    Args:
      bits: b, at most 12; may be traced where nothing is encoded.
      scales: number of scales.
      to_codes: as of `fixed_wire`; frequent values should have small codes.
      of_codes: as of `fixed_wire`.
      num_codes: of the values that a code may have.

    Returns:
      The wire.

    Raises:
      ValueError: if there are too many bits.
    """
    check_integer("bits", bits, 1, MOST_BITS)

    def count(payload, mask):
        _, length = _choice(to_codes(payload)[1], mask, bits)
        return _link(length, mask.sum())

    def most(entries, size):
        entries = jnp.asarray(entries, jnp.int32)
        return _link(entries * jnp.asarray(bits, jnp.int32), entries)

    def _link(length, entries):
        none = jnp.zeros_like(length)
        side = jnp.where(entries > 0, FLOAT_BITS * scales + HEADER, none)
        return Link(none, none, length, side)

    def encode(payload, mask):
        heads, codes = to_codes(jax.tree.map(np.asarray, payload))
        kept = np.asarray(codes)[np.asarray(mask)]
        if not kept.size:
            return packed([])
        m = int(_choice(kept, np.ones(kept.shape, bool), int(bits), np)[0])
        written = to_flags(kept, int(bits)) if m == FIXED else rice_flags(kept, m)
        head = of_floats(np.asarray(heads))
        return packed([head, to_flags(np.asarray([m]), HEADER), written])

    def decode(key, message, mask):
        kept = np.asarray(mask)
        codes = np.zeros(kept.shape, np.int64)
        if not kept.any():
            unpacked(message, [0])
            return of_codes(np.zeros(scales), codes)
        head, choice, rest = unpacked(message, [FLOAT_BITS * scales, HEADER, -1])
        codes[kept] = _read(rest, int(from_flags(choice, HEADER)[0]), int(kept.sum()))
        payload = of_codes(to_floats(head), codes)
        # There is one message for every payload: another choice of m is none.
        if encode(payload, mask) != message:
            raise InputError("the message is not as an encoder writes it.")
        return payload

    def _read(flags, m, entries):
        last = int(num_codes) - 1
        if m != FIXED:
            return read_rice(flags, entries, m, most=last)[0]
        if len(flags) != entries * int(bits):
            raise InputError(f"the message does not hold {entries} codes.")
        codes = from_flags(flags, int(bits))
        if codes.max() > last:
            raise InputError(f"the message holds code {codes.max()}: expected {last}.")
        return codes

    return Wire(count, most, encode, decode)
