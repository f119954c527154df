"""Messages of fields of fixed width, on the host."""

from collections.abc import Sequence

import numpy as np

from fedjax_sl.compression.coding import Message
from fedjax_sl.errors import InputError


def to_flags(values: np.ndarray, width: int) -> np.ndarray:
    """Writes unsigned integers in so many bits each, the highest first, `[n width]`.

    Raises:
      ValueError: if one takes more bits.
    """
    # A negative integer wraps to a huge one, which the check below refuses.
    values = np.asarray(values, np.uint64).reshape(-1)
    if values.size and int(values.max()) >> width:
        raise InputError(f"values up to {values.max()}: expected {width} bits each.")
    places = np.arange(width - 1, -1, -1, dtype=np.uint64)
    return ((values[:, None] >> places) & np.uint64(1)).astype(np.uint8).reshape(-1)


def from_flags(flags: np.ndarray, width: int) -> np.ndarray:
    """Inverts `to_flags`, `[n]` int64."""
    places = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    return flags.reshape(-1, width).astype(np.int64) @ places


def of_floats(values: np.ndarray) -> np.ndarray:
    """The 32 bits of float32 numbers.

    Raises:
      ValueError: if one is not finite.
    """
    values = np.asarray(values, np.float32).reshape(-1)
    if not np.isfinite(values).all():
        raise InputError("values: expected finite numbers, found nan or infinity.")
    return to_flags(values.view(np.uint32), 32)


def to_floats(flags: np.ndarray) -> np.ndarray:
    """Inverts `of_floats`.

    Raises:
      ValueError: if a number is not finite.
    """
    values = from_flags(flags, 32).astype(np.uint32).view(np.float32)
    if not np.isfinite(values).all():
        raise InputError("the message holds nan or infinity.")
    return values


def packed(parts: Sequence[np.ndarray]) -> Message:
    """Joins flags to a message, padded with zeros to whole bytes."""
    # The empty array in front: without parts there is nothing to concatenate.
    flags = np.concatenate([np.zeros(0, np.uint8), *parts])
    return Message(np.packbits(flags).tobytes(), len(flags))


def unpacked(message: Message, lengths: Sequence[int]) -> list[np.ndarray]:
    """Splits a message into flags.

    Args:
      message: as from `packed`, or from an untrusted source.
      lengths: bits of each part; -1, only for the last one, takes the rest.

    Returns:
      The parts.

    Raises:
      ValueError: if the message has another length, or is not padded with zeros.
    """
    data, num_bits = message
    wanted = sum(length for length in lengths if length >= 0)
    fits = num_bits >= wanted if -1 in lengths else num_bits == wanted
    if not fits or len(data) != -(-num_bits // 8):
        raise InputError(
            f"message of {len(data)} bytes and {num_bits} bits: expected {wanted} bits."
        )
    flags = np.unpackbits(np.frombuffer(data, np.uint8))
    if flags[num_bits:].any():
        raise InputError("the bits past the end of the message are not 0.")
    ends = np.cumsum([length for length in lengths if length >= 0])
    parts = np.split(flags[:num_bits], ends)
    return parts if -1 in lengths else parts[:-1]
