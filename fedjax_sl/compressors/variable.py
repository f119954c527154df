"""Wires whose length follows the values: scales, a choice, and codes as it says."""

from collections.abc import Callable
from typing import Any, NamedTuple

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
from fedjax_sl.compressors.fixed import OfCodes, ToCodes
from fedjax_sl.errors import InputError


HEADER = 4
"""Bits of the choice; the largest number says that codes have b bits each."""

FIXED = 2**HEADER - 1


class Code(NamedTuple):
    """A code of integers, of which the encoder chooses a parameter.

    Attributes:
      length: `length(codes, mask, bits) -> []`: bits of the codes in the mask, in a
        compiled program; not more than `bits` each.
      write: `write(codes, bits) -> (choice, flags)` of `[n]` codes, on the host; the
        choice is FIXED, without flags, where no other is shorter.
      read: `read(flags, choice, entries, bits, last) -> [n]` codes of an untrusted
        message, on the host; codes above `last` may be among them.
    """

    length: Callable[[jax.Array, jax.Array, Any], jax.Array]
    write: Callable[[np.ndarray, int], tuple[int, list[np.ndarray]]]
    read: Callable[..., np.ndarray]


def variable_wire(
    code: Code,
    *,
    bits: Any,
    scales: int,
    to_codes: ToCodes,
    of_codes: OfCodes,
    num_codes: Any,
) -> Wire:
    """A wire as `fixed_wire`, never longer than that by more than 4 bits.

    Args:
      code: of the entries.
      bits: b; may be traced where nothing is encoded.
      scales: number of scales.
      to_codes: as of `fixed_wire`.
      of_codes: as of `fixed_wire`.
      num_codes: of the values that a code may have.

    Returns:
      The wire.
    """

    def count(payload, mask):
        length = code.length(to_codes(payload)[1], mask, bits)
        return _link(length, mask.sum(), scales)

    def most(entries, size):
        entries = jnp.asarray(entries, jnp.int32)
        # FIXED is among the choices, so that no message is longer than b bits a code.
        return _link(entries * jnp.asarray(bits, jnp.int32), entries, scales)

    def encode(payload, mask):
        heads, codes = to_codes(jax.tree.map(np.asarray, payload))
        kept = np.asarray(codes)[np.asarray(mask)]
        if not kept.size:
            return packed([])
        return packed([of_floats(np.asarray(heads)), *_written(code, kept, int(bits))])

    def decode(key, message, mask):
        kept = np.asarray(mask)
        codes = np.zeros(kept.shape, np.int64)
        if not kept.any():
            unpacked(message, [0])
            return of_codes(np.zeros(scales), codes)
        head, choice, rest = unpacked(message, [FLOAT_BITS * scales, HEADER, -1])
        read = _reader(code, int(from_flags(choice, HEADER)[0]))
        last = int(num_codes) - 1
        codes[kept] = read(rest, int(kept.sum()), bits=int(bits), last=last)
        if codes.max() > last:
            raise InputError(
                f"the message holds code {codes.max()}: expected codes below "
                f"{int(num_codes)}."
            )
        payload = of_codes(to_floats(head), codes)
        # There is one message for every payload: another choice is none.
        if encode(payload, mask) != message:
            raise InputError("the message is not as an encoder writes it.")
        return payload

    return Wire(count, most, encode, decode)


def _link(length: jax.Array, entries: jax.Array, scales: int) -> Link:
    none = jnp.zeros_like(length)
    side = jnp.where(entries > 0, FLOAT_BITS * scales + HEADER, none)
    # Codes have no common width, so that all their bits are `more`.
    return Link(none, none, length, side)


def _written(code: Code, codes: np.ndarray, bits: int) -> list[np.ndarray]:
    """Writes the choice and the codes, as flags."""
    choice, flags = code.write(codes, bits)
    if choice == FIXED:
        flags = [to_flags(codes, bits)]
    return [to_flags(np.asarray([choice]), HEADER), *flags]


def _reader(code: Code, choice: int) -> Callable[..., np.ndarray]:
    """Returns `read(flags, entries, bits, last)` of the choice that a message makes."""
    if choice == FIXED:
        return _read_fixed
    return lambda flags, entries, **limits: code.read(flags, choice, entries, **limits)


def _read_fixed(flags: np.ndarray, entries: int, bits: int, last: int) -> np.ndarray:
    del last  # checked for every choice
    if len(flags) != entries * bits:
        raise InputError(f"the message does not hold {entries} codes.")
    return from_flags(flags, bits)
