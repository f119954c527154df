"""Error feedback: what a message left out goes into the next one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compressors.compressor import Compressor, Levels, Wire


class Feedback(NamedTuple):
    """The state of a sender.

    Attributes:
      kept: `[...]`, the residual; of EF21, what both ends hold.
      inner: state of the compressor.
    """

    kept: jax.Array
    inner: Any


def error_feedback(inner: Compressor) -> Compressor:
    """Sends `C(x + e)` and keeps `e <- x + e - C(x + e)` (Seide et al. 2014).

    Messages add up to what was to be sent, but for the last residual. Entries outside
    the mask keep theirs.

    Args:
      inner: C, a contraction.

    Returns:
      The compressor; its state is a `Feedback`.
    """

    def compress(key, x, mask, state):
        # Outside the mask a residual waits: it may neither be sent nor enter a norm.
        whole = jnp.where(mask, x + state.kept, 0.0)
        payload, own = inner.compress(key, whole, mask, state.inner)
        left = whole - inner.decompress(key, payload, mask)
        return payload, Feedback(jnp.where(mask, left, state.kept), own)

    # Wire and payload stay the inner ones: only the sender has a memory.
    return inner._replace(
        compress=compress, init=lambda x: Feedback(jnp.zeros_like(x), inner.init(x))
    )


class Increment(NamedTuple):
    """A message of EF21.

    Attributes:
      known: `[...]` g, which both ends hold, and which is not sent.
      change: payload of what is added.
    """

    known: jax.Array
    change: Any


def ef21(inner: Compressor) -> Compressor:
    """Sends `C(x - g)`; both ends then hold `g <- g + C(x - g)` (Richtarik 2021).

    The receiver takes g for x: it converges to x where x does, however coarse C is.

    Args:
      inner: C, a contraction.

    Returns:
      The compressor; its state is a `Feedback`, its payload an `Increment`.
    """

    def compress(key, x, mask, state):
        change, own = inner.compress(key, x - state.kept, mask, state.inner)
        # g rides along for `decompress`, which takes no state; no wire sends it.
        payload = Increment(state.kept, change)
        # Rebuilt from the payload, as the receiver does: both then hold the same bits.
        held = payload.known + inner.decompress(key, change, mask)
        return payload, Feedback(held, own)

    def decompress(key, payload, mask):
        change = inner.decompress(key, payload.change, mask)
        return jnp.where(mask, payload.known + change, 0.0)

    return Compressor(
        compress=compress,
        decompress=decompress,
        wire=_of_change(inner.wire),
        sent=lambda payload, mask: inner.sent(payload.change, mask),
        linear=lambda payload, mask, x: inner.linear(payload.change, mask, x),
        init=lambda x: Feedback(jnp.zeros_like(x), inner.init(x)),
        single=inner.single,
        levels=_levels_of_change(inner.levels),
    )


def _of_change(wire: Wire) -> Wire:
    """The wire of an `Increment`, by one of its change."""

    def encode(payload, mask):
        return wire.encode(payload.change, mask)

    def decode(key, message, mask):
        # What both ends hold is not in the message: the receiver puts in its own.
        return Increment(jnp.zeros(mask.shape), wire.decode(key, message, mask))

    return Wire(
        count=lambda payload, mask: wire.count(payload.change, mask),
        most=wire.most,
        encode=encode,
        decode=decode,
    )


def _levels_of_change(levels: Levels | None) -> Levels | None:
    """The levels of an `Increment`, those of its change."""
    if levels is None:
        return None
    return Levels(
        lambda payload, mask: levels.sent(payload.change, mask),
        lambda: {name: _of_change(wire) for name, wire in levels.wires().items()},
    )
