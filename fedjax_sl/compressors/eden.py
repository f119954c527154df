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
from fedjax_sl.compressors.compressor import Compressor, Levels, Wire


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

    This rotation is nearly uniform for vectors of many entries. Where a few entries of
    a block hold nearly all of its norm, it is not, and a bias is left: with b = 1 the
    smaller ones of these may vanish, with b = 3 it is up to 15 % of the norm. It mixes
    entries: of a block that holds an entry of the mask, all are sent.

    Args:
      bits: b, 1 to 8; may be traced.

    Returns:
      The compressor; its payload is a `Rotated`.

    Raises:
      ValueError: if the bits are out of range.
    """
    check_integer("bits", bits, 1, MOST_BITS)

    # When called: a configuration is made before devices are chosen.
    def row():
        return jnp.asarray(bits, jnp.int32) - 1

    def levels_now():
        return jnp.asarray(_tables().levels)[row()]

    def compress(key, x, mask, state):
        # Masked first: a rotation spreads every entry over its block.
        blocks = rotated(key, jnp.where(mask, x, 0.0))
        # By the largest entry first, so that no square leaves the range of float32.
        top = jnp.abs(blocks).max(axis=1, keepdims=True)
        unit = blocks / jnp.where(top > 0, top, 1.0)
        square = (unit**2).sum(axis=1, keepdims=True)
        length = blocks.shape[1]
        # Of norm sqrt(d): entries are about N(0, 1) then, which the levels are of.
        normal = unit * jnp.sqrt(length / jnp.where(square > 0, square, 1.0))
        code = _nearest(normal, row())
        along = (unit * levels_now()[code]).sum(axis=1)
        # |x|^2 / <R x, Q> is top^2 square / (top along), without a square of top.
        scale = top[:, 0] * square[:, 0] / jnp.where(along > 0, along, 1.0)
        # A zero block has scale 0 already; what is no number must stay none.
        return Rotated(scale, code), state

    def decompress(key, payload, mask):
        blocks = payload.scale[:, None] * levels_now()[payload.code]
        return jnp.where(mask, rotated_back(key, blocks, mask.shape), 0.0)

    wire, levels = _wire(bits), Levels(_codes_sent)
    return Compressor(compress, decompress, wire, single=False, levels=levels)


def _blocks_sent(mask: Any, numpy: Any = jnp) -> Any:
    """Which blocks hold an entry of the mask, `[blocks]` bool, by `jnp` or by `np`."""
    count, length = blocks_of(mask.size)
    return (
        numpy.pad(mask.reshape(-1), (0, count * length - mask.size))
        .reshape(count, length)
        .any(axis=1)
    )


def _codes_sent(payload: Rotated, mask: Any) -> np.ndarray:
    """The levels of the blocks that are sent, `[n]`."""
    sent = _blocks_sent(np.asarray(mask), np)
    return np.asarray(payload.code)[sent].reshape(-1)


def _wire(bits: Any) -> Wire:
    """Scales of the blocks that are sent, then a code of b bits for all their entries.

    Padding lies at the end of a batch, so that its blocks cost nothing.
    """

    def of_blocks(blocks, length):
        none = jnp.zeros_like(blocks)
        width = none + jnp.asarray(bits, jnp.int32)
        return Link(blocks * length, width, none, FLOAT_BITS * blocks)

    def most(entries, size):
        count, length = blocks_of(size)
        # Each entry may lie in a block of its own, of which all entries are sent.
        return of_blocks(jnp.minimum(jnp.asarray(entries, jnp.int32), count), length)

    def count(payload, mask):
        blocks = _blocks_sent(mask).sum(dtype=jnp.int32)
        return of_blocks(blocks, blocks_of(mask.size)[1])

    def encode(payload, mask):
        sent = _blocks_sent(np.asarray(mask), np)
        codes = to_flags(_codes_sent(payload, mask), int(bits))
        return packed([of_floats(np.asarray(payload.scale)[sent]), codes])

    def decode(key, message: Message, mask):
        sent = _blocks_sent(np.asarray(mask), np)
        number, length = int(sent.sum()), blocks_of(np.size(mask))[1]
        lengths = [FLOAT_BITS * number, int(bits) * number * length]
        scales, codes = unpacked(message, lengths)
        scale, code = (
            np.zeros(len(sent), np.float32),
            np.zeros((len(sent), length), int),
        )
        scale[sent] = to_floats(scales)
        code[sent] = from_flags(codes, int(bits)).reshape(number, length)
        return Rotated(scale, code)  # type: ignore[arg-type]

    return Wire(count, most, encode, decode)


def drive() -> Compressor:
    """DRIVE (Vargaftik et al. 2021): one bit an entry; `eden` with b = 1."""
    return eden(bits=1)
