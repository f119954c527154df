"""The interface of compressors: what becomes of an array on a wire, and its bits.

A compressor is of one array of one client; clients and layers are mapped outside. Both
ends know the array's shape, which of its entries may be sent (a mask) and a key, so
that none of these is sent.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.coding import Message


Payload = Any
"""What is sent of an array, before it is coded: one pytree, different by compressor."""

State = Any
"""What a sender keeps from one message to the next; () if nothing."""


class Wire(NamedTuple):
    """How a payload is coded.

    Attributes:
      count: `count(payload, mask) -> Link`, [] each: exactly the bits that `encode`
        emits, in a compiled program.
      most: `most(entries, size) -> Link`: the most bits of `entries` entries, an
        integer or an array, of an array of `size`.
      encode: `encode(payload, mask) -> Message`, on the host.
      decode: `decode(key, message, mask) -> payload`, on the host.
    """

    count: Callable[[Payload, jax.Array], Link]
    most: Callable[[Any, int], Link]
    encode: Callable[[Payload, Any], Message]
    decode: Callable[[jax.Array, Message, Any], Payload]


class Levels(NamedTuple):
    """The integer levels of a payload, and the codes that they could be sent in.

    Attributes:
      sent: `sent(payload, mask) -> [n]` integers, those that are sent, on the host.
      wires: `wires() -> {coder: Wire}`, of the same payload in each code that takes its
        levels; for numbers that are not traced.
    """

    sent: Callable[[Payload, Any], np.ndarray]
    wires: Callable[[], Mapping[str, Wire]] = dict


def _everything(payload: Payload, mask: jax.Array) -> jax.Array:
    return mask


def _unchanged(payload: Payload, mask: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(mask, x, 0.0)


class Compressor(NamedTuple):
    """Pure functions of one array, as of an optax transformation.

    Attributes:
      compress: `compress(key, x, mask, state) -> (payload, state)`, `x` and `mask`
        `[...]`; entries outside the mask have no effect.
      decompress: `decompress(key, payload, mask) -> [...]`, 0 outside the mask.
      wire: how payloads are coded.
      sent: `sent(payload, mask) -> [...]` bool, which entries are sent.
      linear: `linear(payload, mask, x) -> [...]`, what would be rebuilt of `x` if
        nothing were rounded, linear in `x`; gradients pass through it.
      init: `init(x) -> State` for arrays like `x`.
      single: whether entries are coded one by one, so that those outside the mask cost
        nothing.
      levels: of its payloads, beside which `fedjax-sl codec` puts every code; None if
        they have none.
    """

    compress: Callable[[jax.Array, jax.Array, jax.Array, State], tuple[Payload, State]]
    decompress: Callable[[jax.Array, Payload, jax.Array], jax.Array]
    wire: Wire
    sent: Callable[[Payload, jax.Array], jax.Array] = _everything
    linear: Callable[[Payload, jax.Array, jax.Array], jax.Array] = _unchanged
    init: Callable[[jax.Array], State] = lambda x: ()
    single: bool = True
    levels: Levels | None = None


class Received(NamedTuple):
    """An array after it was sent.

    Attributes:
      values: `[...]`, as rebuilt.
      sent: `[...]` bool, which entries were sent.
      bits: [] each, of the message.
      state: of the sender.
    """

    values: jax.Array
    sent: jax.Array
    bits: Link
    state: State


LARGEST = 2.0**125
"""Larger entries count as no numbers: the reciprocal of a scale above 2^126, by which a
compiled program multiplies, is 0."""


def compressed(
    compressor: Compressor,
    key: jax.Array,
    x: jax.Array,
    mask: jax.Array,
    *,
    state: State,
) -> tuple[Payload, State]:
    """Compresses an array as `send` does, whose arguments it takes.

    Returns:
      The payload and the sender's state after it.
    """
    # An entry that is not drawn would go unseen: then none is a number.
    # Negated, so that NaN, which is not <= anything, is found, too.
    broken = (mask & ~(jnp.abs(x) <= LARGEST)).any()
    return compressor.compress(key, jnp.where(broken, jnp.nan, x), mask, state)


def send(
    compressor: Compressor,
    key: jax.Array,
    x: jax.Array,
    mask: jax.Array,
    *,
    state: State = (),
) -> Received:
    """Sends an array: compresses and rebuilds it, and counts its bits.

    Differentiable in `x`, rounding passed over (straight through).

    Args:
      compressor: how.
      key: a key used here only, which both ends know.
      x: `[...]` float32; with an entry above 2^125, or that is no number, in the mask,
        none is rebuilt as a number.
      mask: `[...]` bool, which entries may be sent; both ends know it.
      state: of the sender.

    Returns:
      A `Received`.
    """
    # Rounding has no gradient of use: `linear` below is all that has one.
    fixed = jax.lax.stop_gradient(x)
    payload, state = compressed(compressor, key, fixed, mask, state=state)
    values = compressor.decompress(key, payload, mask)
    through = compressor.linear(payload, mask, x)
    return Received(
        # The difference is 0, and has the gradient.
        values=values + (through - jax.lax.stop_gradient(through)),
        sent=compressor.sent(payload, mask),
        bits=compressor.wire.count(payload, mask),
        state=state,
    )
