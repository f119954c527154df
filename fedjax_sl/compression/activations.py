"""The encoder of activations at the cut: the kept entries of a tensor, in order.

Both sides know the mask (from a shared key, a bitmap or a pruning mask), so that no
index is sent. Entries are float32, or quantised levels of b bits each.
"""

import numpy as np

from fedjax_sl.checks import check_integer
from fedjax_sl.compression.packing import from_flags, to_flags
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.errors import InputError


def num_bytes(entries: int, bits: int) -> int:
    """Returns the length of so many entries of b bits: ceil(entries b / 8)."""
    return -(-entries * bits // 8)


def encode_entries(values: np.ndarray, mask: np.ndarray, *, bits: int) -> bytes:
    """Encodes the kept entries of a tensor, in C order.

    Args:
      values: `[...]` float32 if b is 32; else integers in 0..2^b - 1.
      mask: bool, broadcasts to `values`; True where an entry is kept.
      bits: b, 1 to 32.

    Returns:
      Float32 values, little-endian; or integers of b bits each, the highest bit first,
      padded with zeros to whole bytes.

    Raises:
      ValueError: if an entry takes more bits.
    """
    check_integer("bits", bits, 1, FLOAT_BITS)
    kept = np.asarray(values)[np.broadcast_to(mask, np.shape(values))]
    if bits == FLOAT_BITS:
        # Little-endian by name: the bytes are the same on every machine.
        return kept.astype("<f4").tobytes()
    if kept.size and not (0 <= kept.min() and kept.max() < 2**bits):
        raise InputError(
            f"entries from {kept.min()} to {kept.max()}: expected 0 to {2**bits - 1}, "
            f"which take {bits} bits."
        )
    return np.packbits(to_flags(kept, bits)).tobytes()


def decode_entries(message: bytes, mask: np.ndarray, *, bits: int) -> np.ndarray:
    """Decodes what `encode_entries` encoded; entries that were not sent are 0.

    Args:
      message: of the kept entries.
      mask: `[...]` bool, as the sender had it, of the whole shape.
      bits: b.

    Returns:
      `[...]`, float32 if b is 32, else int64.

    Raises:
      ValueError: if the message is not of this length, or not padded with zeros.
    """
    check_integer("bits", bits, 1, FLOAT_BITS)
    kept = int(np.count_nonzero(mask))
    if len(message) != num_bytes(kept, bits):
        raise InputError(
            f"message of {len(message)} bytes: expected {num_bytes(kept, bits)} for "
            f"{kept} entries of {bits} bits."
        )
    if bits == FLOAT_BITS:
        values = np.frombuffer(message, "<f4")
    else:
        flags = np.unpackbits(np.frombuffer(message, np.uint8))
        if flags[kept * bits :].any():
            raise InputError("the bits past the end of the message are not 0.")
        values = from_flags(flags[: kept * bits], bits)
    whole = np.zeros(np.shape(mask), values.dtype)
    whole[np.asarray(mask, bool)] = values
    return whole
