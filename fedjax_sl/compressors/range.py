"""Wires of a range code, whose length follows the entropy of the codes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.packing import (
    from_flags,
    of_floats,
    packed,
    to_flags,
    to_floats,
    unpacked,
)
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compression.range_coder import (
    group_counts,
    read_groups,
    read_low,
    write_groups,
    write_low,
)
from fedjax_sl.compression.range_model import (
    CHOICES,
    GROUPS,
    finest,
    frequencies,
    group_of,
    plan,
)
from fedjax_sl.compression.range_roots import read_roots, roots_flags
from fedjax_sl.compressors.compressor import Wire
from fedjax_sl.compressors.fixed import OfCodes, ToCodes
from fedjax_sl.errors import InputError


MOST_BITS = 24

HEADER = 4
"""Bits of j; the largest number says that codes have b bits each."""

FIXED = 2**HEADER - 1

LIMIT = 2**25

_plan = jax.jit(plan)
_frequencies = jax.jit(frequencies)


def _check_size(entries: int) -> None:
    """Rejects arrays whose bits may be no int32."""
    if entries >= LIMIT:
        raise InputError(
            f"an array of {entries} entries: expected less than 2^25 for coder='range'."
        )


def _finest_groups(codes: jax.Array, mask: jax.Array, bits: Any) -> jax.Array:
    """Codes in the mask of each group, `[1 + GROUPS]`."""
    _check_size(codes.size)
    group = group_of(codes, finest(bits)).reshape(-1)
    number = mask.reshape(-1).astype(jnp.int32)
    return jnp.zeros(1 + GROUPS, jnp.int32).at[group].add(number)


def range_wire(
    *, bits: Any, scales: int, to_codes: ToCodes, of_codes: OfCodes, num_codes: Any
) -> Wire:
    """A wire as `fixed_wire`, whose codes are about as short as their entropy.

    How frequent codes are follows from the codes and is sent; a message is never longer
    than that of `fixed_wire` by more than 4 bits. For arrays of fewer than 2^25
    entries.

    Args:
      bits: b, at most 24; may be traced where nothing is encoded.
      scales: number of scales.
      to_codes: as of `fixed_wire`; codes that differ by little should be about as
        frequent, but for 0, which may be more so.
      of_codes: as of `fixed_wire`.
      num_codes: of the values that a code may have.

    Returns:
      The wire.

    Raises:
      ValueError: if there are too many bits.
    """
    check_integer("bits", bits, 1, MOST_BITS)

    def count(payload, mask):
        found = plan(_finest_groups(to_codes(payload)[1], mask, bits), bits)
        entries = mask.sum(dtype=jnp.int32)
        return _link(jnp.minimum(found.length, entries * bits), entries)

    def most(entries, size):
        entries = jnp.asarray(entries, jnp.int32)
        return _link(entries * jnp.asarray(bits, jnp.int32), entries)

    def _link(length, entries):
        none = jnp.zeros_like(length)
        side = jnp.where(entries > 0, FLOAT_BITS * scales + HEADER, none)
        return Link(none, none, length, side)

    def encode(payload, mask):
        heads, codes = to_codes(jax.tree.map(np.asarray, payload))
        kept = np.asarray(codes)[np.asarray(mask)]
        if not kept.size:
            return packed([])
        head = of_floats(np.asarray(heads))
        return packed([head, *_written(kept.astype(np.int32, copy=False), int(bits))])

    def decode(key, message, mask):
        kept = np.asarray(mask)
        codes = np.zeros(kept.shape, np.int64)
        if not kept.any():
            unpacked(message, [0])
            return of_codes(np.zeros(scales), codes)
        head, choice, rest = unpacked(message, [FLOAT_BITS * scales, HEADER, -1])
        entries, chosen = int(kept.sum()), int(from_flags(choice, HEADER)[0])
        found = _read(rest, chosen, entries, bits=int(bits))
        if found.max() >= int(num_codes):
            raise InputError(
                f"the message holds code {found.max()}: expected codes below "
                f"{int(num_codes)}."
            )
        codes[kept] = found
        payload = of_codes(to_floats(head), codes)
        # There is one message for every payload: another description is none.
        if encode(payload, mask) != message:
            raise InputError("the message is not as an encoder writes it.")
        return payload

    return Wire(count, most, encode, decode)


def _written(codes: np.ndarray, bits: int) -> list[np.ndarray]:
    """The choice of j, the roots, the groups and the low bits, or all as they are."""
    _check_size(len(codes))
    # Compiled loops take them for indices.
    if not 0 <= codes.min() <= codes.max() < 1 << bits:
        raise InputError(
            f"codes {codes.min()} to {codes.max()}: expected {bits} bits each."
        )
    finest_low = int(finest(bits))
    found = jax.device_get(_plan(group_counts(codes, finest_low, 1 + GROUPS), bits))
    if found.length >= len(codes) * bits:
        return [to_flags(np.asarray([FIXED]), HEADER), to_flags(codes, bits)]
    low = finest_low + int(found.choice)
    frequency = np.asarray(_frequencies(found.roots))
    return [
        to_flags(found.choice, HEADER),
        roots_flags(found.roots, len(codes)),
        write_groups(codes, low, frequency, num_bits=int(found.coded)),
        write_low(codes, low),
    ]


def _read(flags: np.ndarray, choice: int, entries: int, *, bits: int) -> np.ndarray:
    """The codes, `[n]`, of an untrusted message; any may be too large."""
    if choice == FIXED:
        if len(flags) != entries * bits:
            raise InputError(f"the message does not hold {entries} codes.")
        return from_flags(flags, bits)
    if choice >= CHOICES:
        raise InputError(f"the message holds choice {choice}: expected {CHOICES - 1}.")
    low = int(finest(bits)) + choice
    roots, used = read_roots(flags, entries, 1 + GROUPS)
    frequency = np.asarray(_frequencies(roots))
    groups = read_groups(flags[used:], frequency, entries)
    # They end the message; whether they begin where the groups end, encoding tells.
    return read_low(flags[used:], low, groups)
