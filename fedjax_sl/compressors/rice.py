"""Wires of a Golomb-Rice code, shorter where small codes are common."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check_integer
from fedjax_sl.compression.golomb_rice import read_rice, rice_flags
from fedjax_sl.compressors.compressor import Wire
from fedjax_sl.compressors.variable import FIXED, Code, variable_wire


MOST_BITS = 12
"""Of a code: the choice of m compares with every power of two."""

LONGEST = 64
"""Ones in front of an entry, at most; otherwise all codes are written as they are."""


def _choice(codes: Any, mask: Any, bits: Any, numpy: Any = jnp) -> tuple[Any, Any]:
    """Chooses m, and counts the bits of all codes, by `jnp` or by `np`.

    Codes of a geometric distribution are shortest with the smallest m for which a share
    of at most 0.618 is 2^m or more.
    """
    entries = mask.sum(dtype=np.int32)
    powers = 1 << np.arange(MOST_BITS)
    # All counts are integers, so that the encoder on the host chooses the same.
    above = numpy.stack([((codes >= p) & mask).sum(dtype=np.int32) for p in powers])
    # 8 / 13 stands for 0.618; 13 times 2^25 entries is an int32.
    m = (13 * above > 8 * entries).sum(dtype=np.int32)
    ones = numpy.where(mask, codes >> m, 0)
    # At most 64 each, so that the sum over fewer than 2^25 entries is an int32.
    length = numpy.minimum(ones, LONGEST).sum(dtype=np.int32) + entries * (1 + m)
    shorter = (ones.max(initial=0) <= LONGEST) & (length < entries * bits)
    return numpy.where(shorter, m, FIXED), numpy.where(shorter, length, entries * bits)


def _write(codes: np.ndarray, bits: int) -> tuple[int, list[np.ndarray]]:
    m = int(_choice(codes, np.ones(codes.shape, bool), bits, np)[0])
    return m, [] if m == FIXED else [rice_flags(codes, m)]


def _read(
    flags: np.ndarray, m: int, entries: int, *, bits: int, last: int
) -> np.ndarray:
    return read_rice(flags, entries, m, most=last)[0]


RICE = Code(lambda codes, mask, bits: _choice(codes, mask, bits)[1], _write, _read)
"""m follows from the codes and is sent. Frequent values should have small codes."""


def rice_wire(*, bits: Any, **rest: Any) -> Wire:
    """A wire of `variable_wire` in a Golomb-Rice code, of fewer than 2^25 entries.

    Args:
      bits: b, at most 12; may be traced where nothing is encoded.
      **rest: as of `variable_wire`.

    Returns:
      The wire.

    Raises:
      ValueError: if there are too many bits.
    """
    check_integer("bits", bits, 1, MOST_BITS)
    return variable_wire(RICE, bits=bits, **rest)
