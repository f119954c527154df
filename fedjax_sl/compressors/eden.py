"""EDEN and DRIVE: levels of a normal distribution after a random rotation."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.coding import Message
from fedjax_sl.compression.hadamard import blocks_of, rotated, rotated_back
from fedjax_sl.compression.normal_levels import normal_levels
from fedjax_sl.compression.packing import (
    from_flags,
    of_floats,
    packed,
    to_flags,
    to_floats,
    unpacked,
)
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Compressor, Wire
from fedjax_sl.compressors.identity import all_sent


MOST_BITS = 8


class Rotated(NamedTuple):
    """Levels of rotated blocks.

    Attributes:
      scale: `[blocks]`.
      code: `[blocks, d]` int32, in 0..2^b - 1.
    """

    scale: jax.Array
    code: jax.Array


class _Tables(NamedTuple):
    """Levels for every number of bits, so that bits may be traced.

    Attributes:
      levels: `[8, 256]`, the last one of a row repeated.
      edges: `[8, 256]`, between a level and the next; infinite after the last one.
      first: `[8, CELLS]`, level at the lower end of a cell.
    """

    levels: np.ndarray
    edges: np.ndarray
    first: np.ndarray


REACH, CELLS = 6.0, 3072
"""Cells between -6 and 6, each narrower than the interval of a level."""


@cache
def _tables() -> _Tables:
    rows = [normal_levels(bits) for bits in range(1, MOST_BITS + 1)]
    levels = [np.pad(row, (0, 2**MOST_BITS - len(row)), mode="edge") for row in rows]
    middles = [(row[1:] + row[:-1]) / 2 for row in rows]
    edges = [
        np.pad(row, (0, 2**MOST_BITS - len(row)), constant_values=np.inf)
        for row in middles
    ]
    lower = np.linspace(-REACH, REACH, CELLS, endpoint=False)
    first = [np.searchsorted(row, lower) for row in middles]
    return _Tables(*map(np.stack, (levels, edges, first)))


def _nearest(x: jax.Array, row: jax.Array) -> jax.Array:
    """Index of the nearest level of a row of the tables, `[...]` int32."""
    tables = _tables()
    # A look-up in a fine grid, and one comparison: a binary search takes ten times as
    # long.
    cell = jnp.clip((x + REACH) * (CELLS / (2 * REACH)), 0, CELLS - 1).astype(jnp.int32)
    below = jnp.asarray(tables.first, jnp.int32)[row][cell]
    return below + (x > jnp.asarray(tables.edges)[row][below])


def eden(*, bits: Any = 2) -> Compressor:
    """EDEN (Vargaftik et al. 2022): `S R^-1 Q(sqrt(d) R x / |x|)`, unbiased.

    R is a randomised Hadamard transform of each block of d <= 4096 entries, Q the
    nearest of the 2^b Lloyd-Max levels of N(0, 1), and S = |x|^2 / <R x, Q>, which
    makes it unbiased for a uniform rotation. With b = 1 it is DRIVE (Vargaftik et al.
    2021) with its unbiased scale. E|C(x) - x|^2 is about D / (1 - D) |x|^2, with D the
    distortion of Q: 0.571, 0.133, 0.036 for b = 1, 2, 3.

    This rotation is nearly uniform for vectors of many entries; where a few hold nearly
    all of the norm, a bias of some percent is left. It mixes entries: all of a block
    are sent, in the mask or not.

    Args:
      bits: b, 1 to 8; may be traced.

    Returns:
      The compressor; its payload is a `Rotated`.

    Raises:
      ValueError: if the bits are out of range.
    """
    check_integer("bits", bits, 1, MOST_BITS)

    def row():
        return jnp.asarray(bits, jnp.int32) - 1

    def levels_now():
        return jnp.asarray(_tables().levels)[row()]

    def compress(key, x, mask, state):
        blocks = rotated(key, jnp.where(mask, x, 0.0))
        # By the largest entry first, so that no square leaves the range of float32.
        top = jnp.abs(blocks).max(axis=1, keepdims=True)
        unit = blocks / jnp.where(top > 0, top, 1.0)
        square = (unit**2).sum(axis=1, keepdims=True)
        length = blocks.shape[1]
        normal = unit * jnp.sqrt(length / jnp.where(square > 0, square, 1.0))
        code = _nearest(normal, row())
        along = (unit * levels_now()[code]).sum(axis=1)
        scale = top[:, 0] * square[:, 0] / jnp.where(along > 0, along, 1.0)
        # A zero block has scale 0 already; what is no number must stay none.
        return Rotated(scale, code), state

    def decompress(key, payload, mask):
        blocks = payload.scale[:, None] * levels_now()[payload.code]
        return jnp.where(mask, rotated_back(key, blocks, mask.shape), 0.0)

    return Compressor(compress, decompress, all_sent, _wire(bits))


def _wire(bits: Any) -> Wire:
    """Scales of all blocks, then a code of b bits for every entry of them."""

    def most(entries, size):
        count, length = blocks_of(size)
        none = jnp.zeros_like(jnp.asarray(entries, jnp.int32))
        width = none + jnp.asarray(bits, jnp.int32)
        # Nothing at all is sent where no entry may be.
        some = (jnp.asarray(entries) > 0).astype(jnp.int32)
        return Link(count * length * some, width, none, FLOAT_BITS * count * some)

    def encode(payload, mask):
        if not np.any(mask):
            return packed([])
        codes = to_flags(np.asarray(payload.code), int(bits))
        return packed([of_floats(payload.scale), codes])

    def decode(key, message: Message, mask):
        count, length = blocks_of(np.size(mask))
        if not np.any(mask):
            unpacked(message, [0])
            return Rotated(np.zeros(count), np.zeros((count, length), int))  # type: ignore[arg-type]
        codes = int(bits) * count * length
        parts = unpacked(message, [FLOAT_BITS * count, codes])
        code = from_flags(parts[1], int(bits)).reshape(count, length)
        return Rotated(to_floats(parts[0]), code)  # type: ignore[arg-type]

    return Wire(
        count=lambda payload, mask: most(mask.sum(), mask.size),
        most=most,
        encode=encode,
        decode=decode,
    )


def drive() -> Compressor:
    """DRIVE (Vargaftik et al. 2021): one bit an entry; `eden` with b = 1."""
    return eden(bits=1)
