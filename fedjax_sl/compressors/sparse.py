"""Sparse messages: a selection of the entries, and a compressor of those selected."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check_number
from fedjax_sl.compression.coding import Message
from fedjax_sl.compression.golomb_rice import (
    decode_positions,
    encode_positions,
    most_position_bits,
    position_bits,
)
from fedjax_sl.compression.packing import packed, unpacked
from fedjax_sl.compression.pruning import lowest
from fedjax_sl.compressors.compressor import Compressor, Payload, Wire
from fedjax_sl.errors import InputError


class Selection(NamedTuple):
    """Which entries of an array are sent.

    Attributes:
      choose: `choose(key, x, mask) -> [...]` bool, k entries of the mask.
      number: `number(n) -> k`, of n entries in the mask, an integer or an array.
      factor: `factor(n) -> []`, on the entries that are sent.
      known: whether the receiver draws the same from the key; if not, the positions are
        sent.
    """

    choose: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    number: Callable[[Any], jax.Array]
    factor: Callable[[Any], Any]
    known: bool


class Sparse(NamedTuple):
    """A selection, and what is sent of it.

    Attributes:
      sent: `[...]` bool.
      values: payload of the entries that are sent.
    """

    sent: jax.Array
    values: Payload


def number_kept(entries: Any, keep: Any) -> jax.Array:
    """Returns k = floor(keep n), but 1 if n > 0; keep in millionths, n < 2^28."""
    n = jnp.asarray(entries, jnp.int32)
    share = jnp.round(jnp.asarray(keep, jnp.float32) * 1e6).astype(jnp.int32)
    # By integers: a receiver whose product rounds otherwise would read another k.
    millions, rest = n // 10**6, n % 10**6
    thousands, ones = rest // 1000, rest % 1000
    number = millions * share + (thousands * share + ones * share // 1000) // 1000
    return jnp.clip(number, jnp.minimum(n, 1), n)


def check_keep(keep: Any) -> None:
    """Rejects a share of entries that is not in (0, 1]."""
    check_number("keep", keep, lambda v: 0 < v <= 1, "in (0, 1]")


def largest(scores: jax.Array, mask: jax.Array, count: jax.Array) -> jax.Array:
    """Marks the `count` entries of a mask with the largest scores, all finite.

    A binary search for the threshold, not a sort; ties are broken by index.

    Args:
      scores: `[...]`; NaN counts as the largest.
      mask: `[...]` bool.
      count: [] int32, at most the entries of the mask.

    Returns:
      `[...]` bool.
    """
    below = jnp.where(mask, -scores, jnp.inf).reshape(-1)
    # NaN keeps its sign, and `lowest` puts it last: it has to be sent, to be refused.
    below = jnp.where(jnp.isnan(below), -jnp.inf, below)
    return lowest(below, count).reshape(scores.shape)


def chain(selection: Selection, values: Compressor) -> Compressor:
    """Sends a selection of the entries by a compressor of values.

    Args:
      selection: which entries, times a factor.
      values: how those are sent; it keeps no state.

    Returns:
      The compressor; its payload is a `Sparse`.

    Raises:
      ValueError: if it sends other entries, too.
    """
    if not values.single:
        raise InputError(
            "values: expected a compressor that codes entries one by one, not one that "
            "mixes them."
        )

    def compress(key, x, mask, state):
        first, second = jax.random.split(key)
        sent = selection.choose(first, x, mask)
        kept = jnp.where(sent, x * selection.factor(mask.sum()), 0.0)
        payload, state = values.compress(second, kept, sent, state)
        return Sparse(sent, payload), state

    def decompress(key, payload, mask):
        return values.decompress(jax.random.split(key)[1], payload.values, payload.sent)

    def linear(payload, mask, x):
        kept = jnp.where(payload.sent, x * selection.factor(mask.sum()), 0.0)
        return values.linear(payload.values, payload.sent, kept)

    return Compressor(
        compress=compress,
        decompress=decompress,
        wire=_wire(selection, values.wire),
        sent=lambda payload, mask: payload.sent,
        linear=linear,
    )


def _wire(selection: Selection, values: Wire) -> Wire:
    """Positions first, unless the receiver knows them; then the values."""

    def count(payload, mask):
        link = values.count(payload.values, payload.sent)
        if selection.known:
            return link
        return link._replace(side=link.side + position_bits(payload.sent, mask))

    def most(entries, size):
        number = selection.number(entries)
        link = values.most(number, size)
        if selection.known:
            return link
        return link._replace(side=link.side + most_position_bits(entries, number))

    def encode(payload, mask):
        sent = np.asarray(payload.sent)
        inner = values.encode(payload.values, sent)
        if selection.known:
            return inner
        (flags,) = unpacked(inner, [inner.num_bits])
        return packed([encode_positions(sent, np.asarray(mask)), flags])

    def decode(key, message: Message, mask):
        first, second = jax.random.split(key)
        mask = np.asarray(mask)
        if selection.known:
            sent = np.asarray(
                selection.choose(first, jnp.zeros(mask.shape), jnp.asarray(mask))
            )
            return Sparse(sent, values.decode(second, message, sent))  # type: ignore[arg-type]
        (flags,) = unpacked(message, [-1])
        number = int(selection.number(int(mask.sum())))
        sent, used = decode_positions(flags, mask, number)
        rest = packed([flags[used:]])
        return Sparse(sent, values.decode(second, rest, sent))  # type: ignore[arg-type]

    return Wire(count, most, encode, decode)
