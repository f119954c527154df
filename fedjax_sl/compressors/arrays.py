"""The arrays of a model as bytes: each one's change since both ends held the same.

The number of arrays, 4 bytes; the bits of each message, 8 bytes each; and the messages,
padded to whole bytes. Numbers are little-endian. A float array is sent as the message
of its change, by a compressor; integers, of which a change is no small number, and
flags as they are.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.coding import Message
from fedjax_sl.compressors.compressor import LARGEST, Compressor, State
from fedjax_sl.compressors.error_feedback import Increment
from fedjax_sl.errors import InputError


COUNT, LENGTH = 4, 8
"""Bytes of the number of arrays, and of that of a message's bits."""


def init_states(compressor: Compressor, arrays: Sequence[Any]) -> list[State]:
    """Returns the sender's state of every array, unused of what is sent as it is."""
    # Of integers, too: once a server has averaged them, they are floats.
    return [compressor.init(jnp.zeros(np.shape(x))) for x in arrays]


def pack(
    compressor: Compressor,
    key: jax.Array,
    arrays: Sequence[Any],
    relative_to: Sequence[Any],
) -> bytes:
    """Compresses the change of a model's arrays, on the host.

    Args:
      compressor: of the change of each float array; it keeps no state.
      key: a key used here only, which both ends know.
      arrays: `[...]` each, of floats, integers or flags.
      relative_to: what both ends hold, of the same shapes; where it is no array of
        floats, of the same type.

    Returns:
      The bytes.

    Raises:
      ValueError: if the arrays do not match or a change is not finite, or if the
        compressor keeps a state.
    """
    states = init_states(compressor, arrays)
    if jax.tree.leaves(states):
        raise InputError(
            "compressor: expected one without a state, or pack_with_states."
        )
    return pack_with_states(compressor, key, arrays, relative_to, states=states)[0]


def pack_with_states(
    compressor: Compressor,
    key: jax.Array,
    arrays: Sequence[Any],
    relative_to: Sequence[Any],
    *,
    states: list[State],
) -> tuple[bytes, list[State]]:
    """Compresses as `pack`, by a compressor that may keep a state, as error feedback.

    Args:
      compressor: of the change of each float array.
      key: a key used here only, which both ends know.
      arrays: as of `pack`.
      relative_to: as of `pack`.
      states: of the sender, as from `init_states` or the last message.

    Returns:
      The bytes, and the states.

    Raises:
      ValueError: if the arrays do not match, a change is not finite, or the receiver
        would need a state, too.
    """
    if not len(arrays) == len(relative_to) == len(states):
        raise InputError(
            f"{len(arrays)} arrays and {len(states)} states: expected "
            f"{len(relative_to)} of each."
        )
    messages, kept = [], []
    for index, (x, held) in enumerate(zip(arrays, relative_to, strict=True)):
        x, held = np.asarray(x), np.asarray(held)
        own = jax.random.fold_in(key, index)
        try:
            change = _change(x, held)
            message, state = (
                (_as_it_is(x), states[index])
                if change is None
                else _compressed(compressor, own, change, states[index])
            )
        except ValueError as error:
            raise InputError(f"arrays[{index}]: {error}") from error
        messages.append(message)
        kept.append(state)
    # In bits: a message may end within a byte, and its padding is checked.
    lengths = np.asarray([message.num_bits for message in messages], "<u8")
    head = len(messages).to_bytes(COUNT, "little") + lengths.tobytes()
    return head + b"".join(message.data for message in messages), kept


def unpack(
    compressor: Compressor, key: jax.Array, data: bytes, relative_to: Sequence[Any]
) -> list[np.ndarray]:
    """Rebuilds the arrays that `pack` compressed.

    Args:
      compressor: as the sender's.
      key: as the sender's.
      data: as from `pack`, or from an untrusted source.
      relative_to: as the sender's.

    Returns:
      The arrays, of the shapes and types of `relative_to`.

    Raises:
      ValueError: if these are no such bytes, or an entry would not be finite.
    """
    messages = _messages(data)
    if len(messages) != len(relative_to):
        raise InputError(
            f"the bytes hold {len(messages)} arrays: expected {len(relative_to)}."
        )
    found = []
    for index, (message, held) in enumerate(zip(messages, relative_to, strict=True)):
        own, held = jax.random.fold_in(key, index), np.asarray(held)
        try:
            if _compresses(held):
                found.append(_rebuilt(compressor, own, message, held))
            else:
                found.append(_read(message, held))
        except ValueError as error:
            raise InputError(f"arrays[{index}]: {error}") from error
    return found


def packed_bits(data: bytes) -> int:
    """Returns the bits of all messages in what `pack` returned."""
    return sum(message.num_bits for message in _messages(data))


def _messages(data: bytes) -> list[Message]:
    """Splits bytes into messages, whose contents are not looked at."""
    number = int.from_bytes(data[:COUNT], "little")
    start = COUNT + LENGTH * number
    if len(data) < start:
        raise InputError(f"{len(data)} bytes do not hold {number} arrays.")
    # As integers of Python: a sum of malformed lengths may pass 2^64.
    lengths = [int(n) for n in np.frombuffer(data[COUNT:start], "<u8")]
    if start + sum(-(-length // 8) for length in lengths) != len(data):
        raise InputError(f"{len(data)} bytes are not as long as their messages.")
    found = []
    for length in lengths:
        end = start + -(-length // 8)
        found.append(Message(data[start:end], length))
        start = end
    return found


def _compresses(held: np.ndarray) -> bool:
    """Whether an array goes through the compressor, and is not sent as it is."""
    # An empty array has no largest entry to scale by.
    return held.size > 0 and bool(jnp.issubdtype(held.dtype, jnp.floating))


def _real(x: np.ndarray) -> bool:
    """Whether an array is of floats, integers or flags."""
    return x.dtype.kind in "biu" or bool(jnp.issubdtype(x.dtype, jnp.floating))


def _change(x: np.ndarray, held: np.ndarray) -> np.ndarray | None:
    """The change of a float array, in float32; None of another array."""
    # A server's average of integers is one of floats; clients may round it again.
    fits = (
        _real(x) if jnp.issubdtype(held.dtype, jnp.floating) else x.dtype == held.dtype
    )
    if x.shape != held.shape or not (fits and _real(held)):
        raise InputError(
            f"{x.dtype} {list(x.shape)}: expected {held.dtype} {list(held.shape)}, of "
            "floats, integers or flags."
        )
    if not _compresses(held):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        # In float64: a difference of float64 arrays is rounded once, not each of them.
        change = (x.astype(np.float64) - held.astype(np.float64)).astype(np.float32)
    # Some compressors do not send every entry: none of them may hide this one.
    if not (np.abs(change) <= LARGEST).all():
        raise InputError("expected finite changes of at most 2^125.")
    return change


def _compressed(compressor, key, change, state) -> tuple[Message, State]:
    mask = np.ones(change.shape, bool)
    payload, state = jax.jit(compressor.compress)(key, change, mask, state)
    if isinstance(payload, Increment):
        raise InputError(
            "expected a compressor whose receiver keeps no state, as error_feedback, "
            "not ef21."
        )
    return compressor.wire.encode(jax.tree.map(np.asarray, payload), mask), state


def _rebuilt(compressor, key, message, held) -> np.ndarray:
    mask = np.ones(held.shape, bool)
    payload = compressor.wire.decode(key, message, mask)
    change = np.asarray(jax.jit(compressor.decompress)(key, payload, mask))
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.asarray(held.astype(np.float64) + change, held.dtype)
    if not np.isfinite(whole).all():
        raise InputError("expected finite entries, found nan or infinity.")
    return whole


def _as_it_is(x: np.ndarray) -> Message:
    return Message(x.astype(x.dtype.newbyteorder("<")).tobytes(), 8 * x.nbytes)


def _read(message: Message, held: np.ndarray) -> np.ndarray:
    if message.num_bits != 8 * held.nbytes:
        raise InputError(
            f"message of {message.num_bits} bits: expected {8 * held.nbytes}."
        )
    # Flags are bytes of 0 or 1: what else they hold would be no flag.
    if held.dtype == bool and message.data.strip(b"\0\1"):
        raise InputError("the message holds a byte that is no flag.")
    values = np.frombuffer(message.data, held.dtype.newbyteorder("<"))
    # A copy: what `frombuffer` returns cannot be written to.
    return values.reshape(held.shape).astype(held.dtype)
