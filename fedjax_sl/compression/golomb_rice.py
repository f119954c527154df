"""Golomb-Rice code of positions: which k of n entries are sent, by the gaps between.

An integer v is written as v >> m ones, a zero, and the m low bits of v (Golomb 1966,
Rice 1979). Both ends know n and k, and so the m of gaps.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.compiled import compiled
from fedjax_sl.errors import InputError


def low_bits(entries: Any, sent: Any) -> jax.Array:
    """Returns m, the best for gaps of a geometric distribution, by integers alone.

    The smallest m with q^(2^m) <= 0.618, q = 1 - k / n: one more low bit then costs as
    much as it saves. With -1 / ln q near (2 n - k) / 2 k, that is
    floor(log2(0.48 (2 n - k) / k)), or 0.

    Args:
      entries: n, below 2^26; may be traced.
      sent: k, in 0..n.

    Returns:
      [] int32.
    """
    n, k = jnp.asarray(entries, jnp.int32), jnp.asarray(sent, jnp.int32)
    # Divided one by one: 25 k may not fit.
    mean = 12 * (2 * n - k) // 25 // jnp.maximum(k, 1)
    return 31 - jax.lax.clz(jnp.maximum(mean, 1))


def _low_bits(entries: int, sent: int) -> int:
    """`low_bits` on the host, which takes a hundredth of the time."""
    mean = 12 * (2 * entries - sent) // 25 // max(sent, 1)
    return max(mean, 1).bit_length() - 1


def _gaps(sent: jax.Array, mask: jax.Array) -> jax.Array:
    """Entries of the mask between each one that is sent and the one before, `[M]`."""
    place = jnp.cumsum(mask.reshape(-1), dtype=jnp.int32)
    chosen = (sent & mask).reshape(-1)
    # The place of the last one sent before: a running maximum, shifted by one.
    last = jax.lax.cummax(jnp.where(chosen, place, 0))
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), last[:-1]])
    return jnp.where(chosen, place - before - 1, 0)


def position_bits(sent: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the exact length of what `encode_positions` emits.

    Args:
      sent: `[...]` bool.
      mask: `[...]` bool, the entries that may be sent.

    Returns:
      [] int32.
    """
    entries, number = mask.sum(dtype=jnp.int32), (sent & mask).sum(dtype=jnp.int32)
    m = low_bits(entries, number)
    return (_gaps(sent, mask) >> m).sum() + number * (1 + m)


def most_position_bits(entries: Any, sent: Any) -> jax.Array:
    """The most bits that the positions of k of n entries take, `[...]` int32.

    The gaps sum up to n - k at most, so that the ones are at most (n - k) >> m. Also of
    fewer entries in the same proportion, whose m may be another.
    """
    m = low_bits(entries, sent)
    near = [jnp.maximum(m + step, 0) for step in (-1, 0, 1)]
    bits = [((entries - sent) >> m) + sent * (1 + m) for m in near]
    return jnp.stack([jnp.asarray(each) for each in bits]).max(axis=0)


def rice_flags(values: np.ndarray, m: int) -> np.ndarray:
    """Writes integers >= 0: v >> m ones, a zero, and the m low bits of v.

    Args:
      values: `[n]`.
      m: number of low bits.

    Returns:
      `[bits]` uint8.
    """
    values = np.asarray(values, np.int64)
    ends = np.cumsum((values >> m) + 1 + m)
    flags = np.ones(ends[-1] if len(ends) else 0, np.uint8)
    zeros = ends - m - 1
    flags[zeros] = 0
    for place in range(m):
        flags[zeros + 1 + place] = (values >> (m - 1 - place)) & 1
    return flags


@compiled
def _read(flags, m, most, values):
    """Fills values of at most `most`; returns the bits read, or -1."""
    at = 0
    for index in range(len(values)):
        value = 0
        while at < len(flags) and flags[at] == 1:
            value += 1
            at += 1
        # The zero and the low bits have to be there, too.
        if at + 1 + m > len(flags):
            return -1
        at += 1
        for _ in range(m):
            value = 2 * value + flags[at]
            at += 1
        if value > most:
            return -1
        values[index] = value
    return at


def read_rice(
    flags: np.ndarray, number: int, m: int, *, most: int
) -> tuple[np.ndarray, int]:
    """Inverts `rice_flags`.

    Args:
      flags: that begin with the integers.
      number: n.
      m: number of low bits.
      most: the largest that an integer may be.

    Returns:
      `[n]` int64, and the bits read.

    Raises:
      ValueError: if these are no such integers.
    """
    values = np.zeros(number, np.int64)
    used = _read(np.ascontiguousarray(flags), m, most, values)
    if used < 0:
        raise InputError("the message does not hold the integers that it should.")
    return values, used


def encode_positions(sent: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Encodes which entries of a mask are sent, as flags `[bits]` uint8."""
    mask = np.asarray(mask, bool).reshape(-1)
    chosen = np.flatnonzero(np.asarray(sent, bool).reshape(-1)[mask])
    gaps = np.diff(chosen, prepend=-1) - 1
    return rice_flags(gaps, _low_bits(int(mask.sum()), len(chosen)))


def decode_positions(
    flags: np.ndarray, mask: np.ndarray, number: int
) -> tuple[np.ndarray, int]:
    """Decodes which entries of a mask are sent.

    Args:
      flags: that begin with the positions.
      mask: `[...]` bool.
      number: k.

    Returns:
      `[...]` bool, and the bits read.

    Raises:
      ValueError: if these are no positions.
    """
    mask = np.asarray(mask, bool)
    places = np.flatnonzero(mask)
    if not 0 <= number <= len(places):
        raise InputError(f"{number} positions: expected 0 to {len(places)}.")
    m = _low_bits(len(places), number)
    gaps, used = read_rice(flags, number, m, most=len(places))
    chosen = np.cumsum(gaps + 1) - 1
    # Each gap is in range, but their sum need not be.
    if number and chosen[-1] >= len(places):
        raise InputError("the message holds positions beyond the last entry.")
    sent = np.zeros(mask.size, bool)
    sent[places[chosen]] = True
    return sent.reshape(mask.shape), used
