"""The interface of compressors: what becomes of an array on a wire, and its bits.

A compressor is of one array of one client; clients and layers are mapped outside. Both
ends know the array's shape, which of its entries may be sent (a mask) and a key, so
that none of these is sent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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


class Compressor(NamedTuple):
    """Pure functions of one array, as of an optax transformation.

    Attributes:
      compress: `compress(key, x, mask, state) -> (payload, state)`, `x` and `mask`
        `[...]`; entries outside the mask have no effect.
      decompress: `decompress(key, payload, mask) -> [...]`, 0 outside the mask.
      gain: `gain(payload, mask) -> [...]`, the derivative of a received entry by the
        one that was sent, rounding ignored: 0 where nothing is sent.
      wire: how payloads are coded.
      init: `init(x) -> State` for arrays like `x`.
    """

    compress: Callable[[jax.Array, jax.Array, jax.Array, State], tuple[Payload, State]]
    decompress: Callable[[jax.Array, Payload, jax.Array], jax.Array]
    gain: Callable[[Payload, jax.Array], jax.Array]
    wire: Wire
    init: Callable[[jax.Array], State] = lambda x: ()


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


@jax.custom_vjp
def _as_received(x: jax.Array, values: jax.Array, gain: jax.Array) -> jax.Array:
    return values


def _forward(x, values, gain):
    return values, gain


def _backward(gain, cotangent):
    # Rounding has no useful derivative: it is passed over (straight through).
    return cotangent * gain, jnp.zeros_like(gain), jnp.zeros_like(gain)


_as_received.defvjp(_forward, _backward)


def send(
    compressor: Compressor,
    key: jax.Array,
    x: jax.Array,
    mask: jax.Array,
    *,
    state: State = (),
) -> Received:
    """Sends an array: compresses and rebuilds it, and counts its bits.

    Differentiable in `x`: the gradient of an entry is that of the received one times
    the compressor's gain.

    Args:
      compressor: how.
      key: a key used here only, which both ends know.
      x: `[...]` float32.
      mask: `[...]` bool, which entries may be sent; both ends know it.
      state: of the sender.

    Returns:
      A `Received`.
    """
    fixed = jax.lax.stop_gradient(x)
    payload, state = compressor.compress(key, fixed, mask, state)
    values = compressor.decompress(key, payload, mask)
    gain = compressor.gain(payload, mask)
    return Received(
        values=_as_received(x, values, gain),
        sent=gain != 0,
        bits=compressor.wire.count(payload, mask),
        state=state,
    )
