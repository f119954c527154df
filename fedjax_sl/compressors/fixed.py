"""Wires whose length depends on the number of entries alone: scales, then codes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.packing import (
    from_flags,
    of_floats,
    packed,
    to_flags,
    to_floats,
    unpacked,
)
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Wire
from fedjax_sl.errors import InputError


ToCodes = Callable[[Any], tuple[list[Any], Any]]
OfCodes = Callable[[np.ndarray, np.ndarray], Any]


def fixed_wire(
    *,
    bits: Any,
    scales: int,
    to_codes: ToCodes,
    of_codes: OfCodes,
    num_codes: Any,
) -> Wire:
    """A wire of some float32 scales, and a code of fixed width for every entry.

    Args:
      bits: b of a code; may be traced where nothing is encoded.
      scales: number of scales.
      to_codes: payload -> (scales, codes `[...]`), integers in 0..num_codes - 1.
      of_codes: (scales, codes `[...]`) -> payload; codes outside the mask are 0.
      num_codes: of the values that a code may have.

    Returns:
      The wire.
    """

    def count(payload, mask):
        return most(mask.sum(dtype=jnp.int32), mask.size)

    def most(entries, size):
        entries = jnp.asarray(entries, jnp.int32)
        none = jnp.zeros_like(entries)
        width = jnp.broadcast_to(jnp.asarray(bits, jnp.int32), entries.shape)
        # Without an entry no scale is sent either.
        some = (entries > 0).astype(jnp.int32)
        return Link(entries, width, none, FLOAT_BITS * scales * some)

    def encode(payload, mask):
        heads, codes = to_codes(jax.tree.map(np.asarray, payload))
        kept = np.asarray(codes)[np.asarray(mask)]
        if not kept.size:
            return packed([])
        return packed([of_floats(np.asarray(heads)), to_flags(kept, int(bits))])

    def decode(key, message, mask):
        width, kept = int(bits), np.asarray(mask)
        head = FLOAT_BITS * scales * bool(kept.any())
        parts = unpacked(message, [head, width * int(kept.sum())])
        codes = np.zeros(kept.shape, np.int64)
        codes[kept] = from_flags(parts[1], width)
        # Fields of b bits may have room for more codes than a sender has.
        if codes.size and codes.max() >= int(num_codes):
            raise InputError(
                f"the message holds code {codes.max()}: expected codes below "
                f"{int(num_codes)}."
            )
        return of_codes(to_floats(parts[0]) if head else np.zeros(scales), codes)

    return Wire(count, most, encode, decode)
