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
from fedjax_sl.compressors.compressor import Compressor, Levels, Payload, Wire
from fedjax_sl.errors import InputError


class Selection(NamedTuple):
    """Which entries of an array are sent.

    Attributes:
      choose: `choose(key, x, mask, k) -> [...]` bool, k entries of the mask.
      keep: share of the entries; k follows from it.
      known: whether the receiver draws the same from the key; if not, the positions are
        sent.
      factor: `factor(n, k) -> []`, on the k of n entries that are sent.
    """

    choose: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    keep: Any
    known: bool = False
    factor: Callable[[jax.Array, jax.Array], Any] = lambda n, k: 1.0


class Sparse(NamedTuple):
    """A selection, and what is sent of it.

    Attributes:
      sent: `[...]` bool.
      values: payload of the entries that are sent.
    """

    sent: jax.Array
    values: Payload


def number_kept(entries: Any, keep: Any, numpy: Any = jnp) -> Any:
    """Returns k = floor(keep n), but 1 if n > 0; keep in millionths, n < 2^28.

    By `jnp`, or on the host by `np`, which takes a tenth of the time.
    """
    n = numpy.asarray(entries, np.int32)
    share = numpy.round(numpy.asarray(keep, np.float32) * 1e6).astype(np.int32)
    # By integers: a receiver whose product rounds otherwise would read another k.
    millions, rest = n // 10**6, n % 10**6
    thousands, ones = rest // 1000, rest % 1000
    number = millions * share + (thousands * share + ones * share // 1000) // 1000
    return numpy.clip(number, numpy.minimum(n, 1), n)


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
      ValueError: if the share is not in (0, 1], or `values` sends other entries, too.
    """
    check_number("keep", selection.keep, lambda v: 0 < v <= 1, "in (0, 1]")
    # A block of `eden` would send entries that were not selected.
    if not values.single:
        raise InputError(
            "values: expected a compressor that codes entries one by one, not one that "
            "mixes them."
        )

    def scaled(x, mask, sent):
        entries = mask.sum()
        factor = selection.factor(entries, number_kept(entries, selection.keep))
        return jnp.where(sent, x * factor, 0.0)

    def compress(key, x, mask, state):
        # Two keys: if rounding depended on the selection, their product may be biased.
        first, second = jax.random.split(key)
        number = number_kept(mask.sum(), selection.keep)
        sent = selection.choose(first, x, mask, number)
        kept = scaled(x, mask, sent)
        # What is not selected may not enter a norm or a scale.
        payload, state = values.compress(second, kept, sent, state)
        return Sparse(sent, payload), state

    def decompress(key, payload, mask):
        # The second key, by which `compress` drew for the values.
        return values.decompress(jax.random.split(key)[1], payload.values, payload.sent)

    def linear(payload, mask, x):
        kept = scaled(x, mask, payload.sent)
        return values.linear(payload.values, payload.sent, kept)

    return Compressor(
        compress=compress,
        decompress=decompress,
        wire=_wire(selection, values.wire),
        sent=lambda payload, mask: payload.sent,
        linear=linear,
        levels=_levels(selection, values.levels),
    )


def _levels(selection: Selection, values: Levels | None) -> Levels | None:
    """The levels of the values that are sent; every code comes after the positions."""
    if values is None:
        return None

    def wires():
        return {name: _wire(selection, wire) for name, wire in values.wires().items()}

    return Levels(
        lambda payload, mask: values.sent(payload.values, payload.sent), wires
    )


def _wire(selection: Selection, values: Wire) -> Wire:
    """Positions first, unless the receiver knows them; then the values."""

    def count(payload, mask):
        link = values.count(payload.values, payload.sent)
        if selection.known:
            return link
        return link._replace(side=link.side + position_bits(payload.sent, mask))

    def most(entries, size):
        number = number_kept(entries, selection.keep)
        link = values.most(number, size)
        if selection.known:
            return link
        return link._replace(side=link.side + most_position_bits(entries, number))

    # Operation by operation a draw takes a hundred times as long.
    choose = jax.jit(selection.choose)

    def encode(payload, mask):
        sent = np.asarray(payload.sent)
        inner = values.encode(payload.values, sent)
        if selection.known:
            return inner
        (flags,) = unpacked(inner, [inner.num_bits])
        # Packed anew: positions may end within a byte.
        return packed([encode_positions(sent, np.asarray(mask)), flags])

    def decode(key, message: Message, mask):
        first, second = jax.random.split(key)
        mask = np.asarray(mask)
        number = int(number_kept(int(mask.sum()), selection.keep, np))
        if selection.known:
            # Drawn without a look at the entries, which the receiver does not have.
            nothing = jnp.zeros(mask.shape)
            drawn = choose(first, nothing, jnp.asarray(mask), number)
            sent = np.asarray(drawn)
            return Sparse(sent, values.decode(second, message, sent))  # type: ignore[arg-type]
        (flags,) = unpacked(message, [-1])
        sent, used = decode_positions(flags, mask, number)
        rest = packed([flags[used:]])
        return Sparse(sent, values.decode(second, rest, sent))  # type: ignore[arg-type]

    return Wire(count, most, encode, decode)
