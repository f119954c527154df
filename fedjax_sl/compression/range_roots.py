"""The description of a range code's model: square roots of the numbers of codes.

Roots are described by small integers, and these are written in Elias gamma.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.coding import elias_lengths
from fedjax_sl.errors import InputError


LIMIT = 1 << 27
"""Squares of roots sum up to less: those of fewer than 2^25 entries do."""


def floor_root(n: jax.Array) -> jax.Array:
    """Computes floor(sqrt(n)) of integers below 2^27, `[...]` int32."""
    root = jnp.sqrt(n.astype(jnp.float32)).astype(jnp.int32)
    # A float32 root may be off by one.
    root -= root * root > n
    return root + ((root + 1) * (root + 1) <= n)


def described(roots: jax.Array, entries: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Describes the roots above 0 by integers >= 1, small ones where they are smooth.

    The first is the number of groups between this one and the one before, plus 1. The
    second is the difference to what is expected, 0, 1, -1, 2, ... as 1, 2, 3, 4, ...:
    expected is the root before, but no more than all entries left could have.

    Args:
      roots: `[G]`.
      entries: [] n, of all groups.

    Returns:
      Both, `[G]` int32; of no meaning where r is 0.
    """
    used = roots > 0
    place = jnp.where(used, jnp.arange(1, len(roots) + 1), 0)
    last = jnp.pad(jax.lax.cummax(place)[:-1], (1, 0))
    before = jnp.pad(roots, (1, 0))[last]
    # Without the groups before: what this one and those behind it share.
    left = entries - jnp.cumsum(roots * roots) + roots * roots
    # Roots are rounded, and so their squares may sum up to more than n.
    most = floor_root(jnp.maximum(left, 1))
    expected = jnp.where(last > 0, jnp.minimum(before, most), most)
    gap = roots - expected
    return place - last, 2 * jnp.abs(gap) + (gap <= 0)


def roots_bits(roots: jax.Array, entries: jax.Array) -> jax.Array:
    """Bits of the description of the roots, in Elias gamma, after their number."""
    used = roots > 0
    first, second = (
        jnp.where(used, elias_lengths(jnp.where(used, part, 1), code="gamma"), 0)
        for part in described(roots, entries)
    )
    # Elias gamma has no 0; of an array without codes `_length` takes 0 bits anyway.
    number = jnp.maximum(used.sum(), 1)
    return elias_lengths(number, code="gamma") + (first + second).sum()


def roots_flags(roots: np.ndarray, entries: int) -> np.ndarray:
    """Writes what `roots_bits` counts.

    Args:
      roots: `[G]`, one of them at least above 0.
      entries: n.

    Returns:
      `[bits]` uint8.
    """
    used = roots > 0
    parts = np.stack(described(jnp.asarray(roots), jnp.asarray(entries)), axis=1)
    values = [int(used.sum()), *parts[used].reshape(-1).tolist()]
    # In Elias gamma, an integer of d digits has d - 1 zeros in front.
    text = "".join(f"{value:0{2 * value.bit_length() - 1}b}" for value in values)
    return np.frombuffer(text.encode(), np.uint8) - ord("0")


def _read_gamma(flags: np.ndarray, at: int) -> tuple[int, int]:
    """Reads an integer of at most 16 digits; returns it and where it ends."""
    ahead = flags[at : at + 31]
    zeros = int(ahead.argmax()) if ahead.any() else len(ahead)
    end = at + 2 * zeros + 1
    if zeros > 15 or end > len(flags):
        raise InputError("the message holds no description of its code.")
    digits = flags[at + zeros : end].tolist()
    return int("".join(map(str, digits)), 2), end


def read_roots(flags: np.ndarray, entries: int, size: int) -> tuple[np.ndarray, int]:
    """Inverts `roots_flags`.

    Args:
      flags: that begin with the roots.
      entries: n.
      size: G.

    Returns:
      `[G]` int32, and the bits read.

    Raises:
      ValueError: if these are no roots.
    """
    roots = np.zeros(size, np.int32)
    number, at = _read_gamma(flags, 0)
    place, root, left = -1, LIMIT, entries
    for _ in range(number):
        step, at = _read_gamma(flags, at)
        gap, at = _read_gamma(flags, at)
        place += step
        root = min(root, math.isqrt(max(left, 1)))
        root += gap // 2 if gap % 2 == 0 else -(gap // 2)
        left -= root * root
        # Squares beyond the limit would not fit into the int32 of `frequencies`.
        if place >= size or root < 1 or entries - left >= LIMIT:
            raise InputError("the message describes a code that there is not.")
        roots[place] = root
    return roots, at
