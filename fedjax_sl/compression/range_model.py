"""The model of a range code: how frequent groups of codes are, and what coding costs.

Code 0 is a group of its own, and each further group has 2^j codes, whose j low bits are
written as they are. Of a group with n codes the message holds r, the integer nearest to
sqrt(n): the standard deviation of a count of independent events is sqrt(n), so that r
has the digits that matter, and the codes become about 0.24 bits a group longer than
with n itself. All is in integers, so that a compiled program, an encoder and a decoder
find the same.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.range_roots import floor_root, roots_bits


# With 16 bits rounding costs at most 0.00004 bits a code: an interval of 2^32 or more
# is divided by 2^16. With 24 bits it would be 0.0056.
PRECISION = 16
"""Frequencies sum up to 2^16."""

WHOLE = 1 << PRECISION

GROUPS = 1 << 10
"""Groups of the finest model, without code 0."""

CHOICES = 8
"""Values of j, in steps of 1."""


class Plan(NamedTuple):
    """The shortest way to code some codes; [] each.

    Attributes:
      choice: in 0..CHOICES - 1; j is `finest(bits)` more.
      roots: `[1 + GROUPS]`, r of each group.
      coded: bits of the groups' codes.
      length: all bits: of the roots, of the groups, and the low bits.
    """

    choice: jax.Array
    roots: jax.Array
    coded: jax.Array
    length: jax.Array


def finest(bits: Any) -> Any:
    """The smallest j of codes of b bits."""
    return jnp.maximum(bits - (GROUPS.bit_length() - 1), 0)


def group_of(codes: Any, low: Any) -> Any:
    """The group of each code; `low` is j."""
    # An arithmetic shift leaves -1 as it is, so that code 0 has group 0 for every j.
    return ((codes - 1) >> low) + 1


def _coarser(count: jax.Array) -> jax.Array:
    """Codes of each group for each j, `[CHOICES, 1 + GROUPS]`."""
    rows, rest = [count], count[1:]
    for _ in range(CHOICES - 1):
        # Without code 0, which stays a group of its own: it may be far more frequent.
        rest = rest.reshape(-1, 2).sum(axis=1)
        rows.append(jnp.pad(rest, (1, GROUPS - len(rest))).at[0].set(count[0]))
    return jnp.stack(rows)


def _roots(count: jax.Array) -> jax.Array:
    """The integers nearest to sqrt(n); at least 1 if n is."""
    root = floor_root(count)
    # Beyond (r + 1/2)^2 = r^2 + r + 1/4 the next integer is nearer.
    return root + (count > root * root + root)


def frequencies(roots: jax.Array) -> jax.Array:
    """Computes frequencies near 2^16 r^2 / sum r^2, at least 1 where r is.

    Args:
      roots: `[G]`, sum r^2 below 2^27.

    Returns:
      `[G]` int32 that sum up to 2^16, if any r is above 0.
    """
    weight = roots * roots
    total = jnp.maximum(weight.sum(), 1)
    share, rest = jnp.zeros_like(weight), weight
    # Long division, four bits at a time: 2^16 r^2 is no int32.
    for _ in range(PRECISION // 4):
        rest = rest << 4
        share = (share << 4) + rest // total
        rest = rest % total
    used = roots > 0
    # Each has one for itself, and its share of the others.
    others = (WHOLE - used.sum()).astype(jnp.uint32)
    # At most 2^16 times less than 2^16: it fits into uint32, not into int32.
    part = (share.astype(jnp.uint32) * others >> PRECISION).astype(jnp.int32)
    found = jnp.where(used, part + 1, 0)
    # What rounding leaves goes to the most frequent one.
    return found.at[roots.argmax()].add(WHOLE - found.sum())


@cache
def _costs() -> np.ndarray:
    """Bits of a group of each frequency in units of 2^-16, rounded up, `[2^16 + 1]`.

    The coder's interval shrinks by a little more than the frequency says: dividing it,
    2^32 or wider, by 2^16 rounds it down by less than a 2^-16-th.
    """
    frequency = np.arange(1, WHOLE)
    bits = PRECISION - np.log2(frequency) - np.log2(1 - 2.0**-16)
    found = np.ceil(bits * WHOLE).astype(np.int32)
    # Where all codes are of one group, nothing is written.
    return np.concatenate([[np.int32(0)], found, [np.int32(0)]])


def coded_bits(count: jax.Array, frequency: jax.Array) -> jax.Array:
    """Bounds the bits of the groups' codes, by which the encoder pads them.

    ceil(sum_g n_g cost(f_g)) + 1: among numbers of so many digits there is one of which
    any continuation lies in the interval.

    Args:
      count: `[G]` codes of each group, less than 2^25 in all.
      frequency: `[G]`.

    Returns:
      [] int32; 0 if there is one group, or none.
    """
    cost = jnp.asarray(_costs())[frequency]
    digits, part = cost >> 16, cost & 0xFFFF
    # In two halves of 13 and 12 bits: no sum passes 2^30.
    high = ((count >> 12) * part).sum()
    low = (count & 0xFFF) * part
    rest = (low & 0xFFFF).sum() + ((high & 0xF) << 12)
    bits = (count * digits).sum() + (high >> 4) + (low >> 16).sum()
    bits = bits + ((rest + 0xFFFF) >> 16)
    return jnp.where((frequency > 0).sum() > 1, bits + 1, 0)


def plan(count: jax.Array, bits: Any) -> Plan:
    """Chooses j, and counts the bits.

    Args:
      count: `[1 + GROUPS]` int32, codes of each group of the finest model, less than
        2^25 in all.
      bits: b of a code, up to 24; may be traced.

    Returns:
      The `Plan`.
    """
    entries = count.sum()

    def of_choice(choice, count):
        roots = _roots(count)
        coded = coded_bits(count, frequencies(roots))
        low = (finest(bits) + choice) * (entries - count[0])
        return Plan(choice, roots, coded, roots_bits(roots, entries) + coded + low)

    plans = jax.vmap(of_choice)(jnp.arange(CHOICES), _coarser(count))
    return jax.tree.map(lambda leaf: leaf[plans.length.argmin()], plans)
