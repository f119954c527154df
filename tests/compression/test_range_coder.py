"""The range code: its model, its integers, and the bits that it needs at most."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedjax_sl.compression.range_coder import (
    read_groups,
    read_low,
    write_groups,
    write_low,
)
from fedjax_sl.compression.range_model import (
    GROUPS,
    WHOLE,
    coded_bits,
    finest,
    frequencies,
    group_of,
    plan,
)
from fedjax_sl.compression.range_roots import (
    floor_root,
    read_roots,
    roots_bits,
    roots_flags,
)
from fedjax_sl.errors import InputError


MOST = 2**25 - 1
LOSS = -np.log2(1 - 2.0**-16)
some_roots = npst.arrays(
    np.int32,
    40,
    elements=st.sampled_from([0, 0, 0, 1, 2, 3]) | st.integers(0, 1700),
)


def frequencies_of(weights):
    """Any integers >= 0 as frequencies."""
    return np.asarray(frequencies(jnp.asarray(weights, jnp.int32)))


def test_roots_are_those_of_integers():
    root = np.arange(1, 2**13)
    near = np.concatenate([root**2 - 1, root**2, root**2 + 1])
    found = floor_root(jnp.asarray(near, jnp.int32))
    np.testing.assert_array_equal(found, [math.isqrt(n) for n in near])


@given(some_roots)
def test_frequencies_sum_up_and_none_is_lost(roots):
    found = frequencies_of(roots)
    if not roots.any():
        return
    assert found.sum() == WHOLE
    np.testing.assert_array_equal(found > 0, roots > 0)
    # As good as exact, but for the 1 of each group.
    share = roots.astype(float) ** 2 / (roots.astype(float) ** 2).sum()
    assert (abs(found - share * WHOLE) <= 2 * len(roots) + 1).all()


@given(some_roots, st.integers(1, MOST))
def test_roots_are_as_long_as_counted_and_read_back(roots, entries):
    roots[0] = max(roots[0], 1)
    flags = roots_flags(roots, entries)
    assert len(flags) == roots_bits(jnp.asarray(roots), jnp.int32(entries))
    after = np.concatenate([flags, np.ones(3, np.uint8)])
    found, used = read_roots(after, entries, len(roots))
    assert found.tolist() == roots.tolist() and used == len(flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0" * 40,
        "1" + "00",  # one root, and no place
        "1" + "00000000001000",  # a place beyond the last
        "1" + "1" + "00111",  # a root of 10 - 3
        "1" + "1" + "0" * 14 + "1" * 15,  # a root whose square is no int32
    ],
)
def test_what_describes_no_roots_is_refused(text):
    flags = np.frombuffer(text.encode(), np.uint8) - ord("0")
    with pytest.raises(InputError, match=r"descri"):
        read_roots(flags, 10, 8)


def exact(count, frequency):
    """coded_bits, in integers of any size."""
    if np.count_nonzero(frequency) < 2:
        return 0
    used = frequency > 0
    cost = 16 - np.log2(frequency[used]) + LOSS
    units = sum(
        int(n) * int(c) for n, c in zip(count[used], np.ceil(cost * 2**16), strict=True)
    )
    return -(-units // 2**16) + 1


@pytest.mark.parametrize(
    "count",
    [
        [MOST],
        [MOST - 1, 1],
        [1, MOST - 1],
        [0, MOST // 2, MOST // 2],
        [MOST // 1025] * 1025,
        [4095] * 1025,
        [MOST - 1024, *[1] * 1024],
        [8191 * 4096, 4095],
    ],
)
def test_bits_are_counted_without_overflow(count):
    count = np.pad(np.asarray(count, np.int64), (0, 1025 - len(count)))
    assert count.sum() <= MOST
    # Frequencies of these entries, and the worst, at which each group is the rarest.
    for frequency in (
        frequencies_of(np.rint(np.sqrt(count))),
        np.where(count > 0, 1, 0),
    ):
        found = coded_bits(jnp.asarray(count, jnp.int32), jnp.asarray(frequency))
        assert int(found) == exact(count, frequency)


def width(groups, frequency):
    """The last interval of the coder as a fraction of the first, in exact numbers."""
    span, words = 2**64 - 1, 0
    for group in groups:
        span = (span >> 16) * int(frequency[group])
        if span < 2**32:
            span, words = span << 32, words + 1
    return Fraction(span, 2 ** (64 + 32 * words))


@given(st.data())
def test_groups_never_need_more_bits_than_counted(data):
    size = 7
    weights = data.draw(
        npst.arrays(np.int32, size, elements=st.sampled_from([1, 2, 50, 3000]))
    )
    weights[data.draw(st.integers(2, size)) :] = 0
    frequency = frequencies_of(weights)
    groups = data.draw(
        npst.arrays(np.int32, st.integers(1, 300), elements=st.integers(0, size - 1))
    )
    groups %= np.count_nonzero(frequency)
    count = np.bincount(groups, minlength=size)
    bits = int(coded_bits(jnp.asarray(count, jnp.int32), jnp.asarray(frequency)))
    assert width(groups, frequency) >= Fraction(2, 2**bits)
    # And hardly fewer: a bit for the end, one for rounding up, and little of the table.
    assert width(groups, frequency) < Fraction(5, 2**bits)
    flags = write_groups(groups, 0, frequency, num_bits=bits)
    assert len(flags) == bits
    for more in ([], [0] * 70, [1] * 70):
        follows = np.concatenate([flags, np.asarray(more, np.uint8)])
        found = read_groups(follows, frequency, len(groups))
        np.testing.assert_array_equal(found, groups)


def test_nor_do_groups_in_the_worst_order():
    """The interval stays near 2^32, where dividing it by 2^16 loses most."""
    frequency = np.asarray([1, 2, 6, 65527])
    groups, span = np.full(1_000_000, 3, np.int32), 2**64 - 1
    for index in range(len(groups)):
        if span > 2**34:
            groups[index] = 1 if span > 2**60 else 0
        span = (span >> 16) * int(frequency[groups[index]])
        span <<= 32 * (span < 2**32)
    bits = exact(np.bincount(groups), frequency)
    assert width(groups, frequency) >= Fraction(2, 2**bits)
    flags = write_groups(groups, 0, frequency, num_bits=bits)
    np.testing.assert_array_equal(read_groups(flags, frequency, len(groups)), groups)


@pytest.mark.parametrize("weights", [[1, 1], [1, 40], [40, 1], [3, 2, 9, 1], [7] * 50])
@pytest.mark.parametrize("number", [40, 333])
def test_a_carry_passes_many_words(weights, number):
    """The groups whose interval holds 1/2 or nearly: below it are words of ones."""
    frequency = frequencies_of(weights)
    half = np.zeros(30 * number, np.uint8)
    half[0] = 1
    around = read_groups(half, frequency, number)
    for last in range(len(weights)):
        groups = np.append(around, np.int32(last))
        count = np.bincount(groups, minlength=len(weights))
        bits = int(coded_bits(jnp.asarray(count, jnp.int32), jnp.asarray(frequency)))
        flags = write_groups(groups, 0, frequency, num_bits=bits)
        found = read_groups(flags, frequency, len(groups))
        np.testing.assert_array_equal(found, groups)


@given(npst.arrays(np.int32, st.integers(0, 50), elements=st.integers(0, 2**24 - 1)))
def test_low_bits_are_read_back(codes):
    for low in (0, 1, 5, 21):
        flags, groups = write_low(codes, low), np.asarray(group_of(codes, low))
        assert len(flags) == low * (codes > 0).sum()
        before = np.concatenate([np.ones(3, np.uint8), flags])
        np.testing.assert_array_equal(read_low(before, low, groups), codes)
        if len(flags):
            with pytest.raises(InputError, match="ends before its last code"):
                read_low(flags[1:], low, groups)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 4, 10, 13])
def test_the_choice_is_the_shortest_of_all(bits):
    rng, size = np.random.default_rng(bits), 2000
    codes = np.minimum(rng.geometric(0.02, size) - 1, 2**bits - 1).astype(np.int32)
    low = int(finest(bits))
    count = np.bincount(group_of(codes, low), minlength=1 + GROUPS)
    found = jax.device_get(plan(jnp.asarray(count, jnp.int32), bits))
    lengths = []
    for j in range(low, low + 8):
        count = np.bincount(group_of(codes, j), minlength=1 + GROUPS)
        roots = np.rint(np.sqrt(count)).astype(np.int32)
        coded = coded_bits(
            jnp.asarray(count, jnp.int32), frequencies(jnp.asarray(roots))
        )
        described = len(roots_flags(roots, size))
        lengths.append(described + int(coded) + j * int((codes > 0).sum()))
    assert int(found.length) == min(lengths)
    assert int(found.choice) == int(np.argmin(lengths))
