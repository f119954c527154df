"""Wires of a range code, whose length follows the entropy of the codes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check_integer
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
from fedjax_sl.compressors.variable import FIXED, Code, variable_wire
from fedjax_sl.errors import InputError


MOST_BITS = 24

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


def _length(codes: jax.Array, mask: jax.Array, bits: Any) -> jax.Array:
    found = plan(_finest_groups(codes, mask, bits), bits)
    # As `_write`, which writes all codes in b bits each where this is no longer.
    return jnp.minimum(found.length, mask.sum(dtype=jnp.int32) * bits)


def _write(codes: np.ndarray, bits: int) -> tuple[int, list[np.ndarray]]:
    """The choice of j; the roots, the groups and the low bits."""
    codes = codes.astype(np.int32, copy=False)
    _check_size(len(codes))
    # Compiled loops take them for indices.
    if not 0 <= codes.min() <= codes.max() < 1 << bits:
        raise InputError(
            f"codes {codes.min()} to {codes.max()}: expected {bits} bits each."
        )
    finest_low = int(finest(bits))
    found = jax.device_get(_plan(group_counts(codes, finest_low, 1 + GROUPS), bits))
    # As in `_length`: bits that are counted are those that are written.
    if found.length >= len(codes) * bits:
        return FIXED, []
    low = finest_low + int(found.choice)
    frequency = np.asarray(_frequencies(found.roots))
    return int(found.choice), [
        roots_flags(found.roots, len(codes)),
        write_groups(codes, low, frequency, num_bits=int(found.coded)),
        write_low(codes, low),
    ]


def _read(
    flags: np.ndarray, choice: int, entries: int, *, bits: int, last: int
) -> np.ndarray:
    if choice >= CHOICES:
        raise InputError(
            f"the message holds choice {choice}: expected 0 to {CHOICES - 1}."
        )
    low = int(finest(bits)) + choice
    roots, used = read_roots(flags, entries, 1 + GROUPS)
    frequency = np.asarray(_frequencies(roots))
    groups = read_groups(flags[used:], frequency, entries)
    # They end the message; whether they begin where the groups end, encoding tells.
    return read_low(flags[used:], low, groups)


RANGE = Code(_length, _write, _read)
"""How frequent codes are follows from the codes and is sent."""


def range_wire(*, bits: Any, **rest: Any) -> Wire:
    """A wire of `variable_wire` whose codes are about as short as their entropy.

    Codes that differ by little should be about as frequent, but for 0, which may be
    more so. For arrays of fewer than 2^25 entries.

    Args:
      bits: b, at most 24; may be traced where nothing is encoded.
      **rest: as of `variable_wire`.

    Returns:
      The wire.

    Raises:
      ValueError: if there are too many bits.
    """
    check_integer("bits", bits, 1, MOST_BITS)
    return variable_wire(RANGE, bits=bits, **rest)
