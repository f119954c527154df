"""Lengths of Golomb-Rice codes, against the entropy of what they code."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedjax_sl.compression.golomb_rice import (
    _low_bits,
    decode_positions,
    encode_positions,
    low_bits,
    most_position_bits,
    position_bits,
    read_rice,
    rice_flags,
)
from fedjax_sl.compressors.rice import MOST_BITS, _choice, rice_wire
from tests.compressors.family import bits_of


def entropy(counts):
    share = counts[counts > 0] / counts.sum()
    return -(share * np.log2(share)).sum()


@given(npst.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 200)))
def test_integers_are_read_back(values):
    for m in (0, 1, 5):
        flags = rice_flags(values, m)
        assert len(flags) == ((values >> m) + 1 + m).sum()
        found, used = read_rice(flags, len(values), m, most=200)
        assert found.tolist() == values.tolist() and used == len(flags)


@given(st.data())
def test_positions_are_as_long_as_counted_and_read_back(data):
    mask = data.draw(npst.arrays(bool, (4, 9)))
    sent = data.draw(npst.arrays(bool, (4, 9))) & mask
    flags = encode_positions(sent, mask)
    assert len(flags) == position_bits(jnp.asarray(sent), jnp.asarray(mask))
    assert len(flags) <= most_position_bits(int(mask.sum()), int(sent.sum()))
    found, used = decode_positions(flags, mask, int(sent.sum()))
    np.testing.assert_array_equal(found, sent)
    assert used == len(flags)


@given(st.integers(0, 2**26 - 1), st.data())
def test_the_host_and_a_program_choose_the_same_low_bits(entries, data):
    sent = data.draw(st.integers(0, entries))
    assert _low_bits(entries, sent) == low_bits(entries, sent)


@given(
    npst.arrays(np.int32, 12, elements=st.integers(0, 2**MOST_BITS - 1)),
    npst.arrays(bool, 12),
    st.integers(1, MOST_BITS),
)
def test_the_host_and_a_program_choose_the_same_code(codes, mask, bits):
    assert [int(n) for n in _choice(codes, mask, bits, np)] == [
        int(n) for n in _choice(jnp.asarray(codes), jnp.asarray(mask), bits)
    ]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.1, 0.3, 0.5])
def test_positions_take_little_more_than_their_entropy(share):
    size = 200_000
    sent = np.random.default_rng(0).random(size) < share
    number = int(sent.sum())
    least = size * entropy(np.array([number, size - number]))
    found = len(encode_positions(sent, np.ones(size, bool)))
    assert least <= found <= 1.06 * least
    # No other number of low bits does better by more than a hundredth.
    gaps = np.diff(np.flatnonzero(sent), prepend=-1) - 1
    best = min(((gaps >> m) + 1 + m).sum() for m in range(16))
    assert found <= 1.01 * best


@pytest.mark.parametrize("half", [1.0, 3.0, 20.0])
def test_levels_take_little_more_than_their_entropy(half):
    """Geometric, as those of a Laplace or exponential distribution are."""
    rng, size, bits = np.random.default_rng(0), 50_000, 8
    codes = np.minimum(rng.geometric(1 - 0.5 ** (1 / half), size) - 1, 2**bits - 1)
    wire = rice_wire(
        bits=bits,
        scales=0,
        to_codes=lambda codes: ([], codes),
        of_codes=lambda scales, codes: codes,
        num_codes=2**bits,
    )
    mask = np.ones(size, bool)
    message = wire.encode(codes, mask)
    assert bits_of(wire.count(jnp.asarray(codes), mask)) == message.num_bits
    least = size * entropy(np.bincount(codes))
    assert least <= message.num_bits <= 1.06 * least
    np.testing.assert_array_equal(wire.decode(None, message, mask), codes)


@pytest.mark.slow
@given(npst.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 255)))
def test_no_message_is_much_longer_than_at_fixed_width(codes):
    wire = rice_wire(
        bits=8,
        scales=0,
        to_codes=lambda codes: ([], codes),
        of_codes=lambda scales, codes: codes,
        num_codes=256,
    )
    mask = np.ones(len(codes), bool)
    message = wire.encode(codes, mask)
    assert message.num_bits <= 8 * len(codes) + 4
    assert bits_of(wire.count(jnp.asarray(codes), mask)) == message.num_bits
    np.testing.assert_array_equal(wire.decode(None, message, mask), codes)


def test_fewer_entries_take_no_more_than_the_most_of_many():
    """Of as large a share: dropout takes entries, and m may become another."""
    for keep in (0.04, 0.08, 0.149, 0.26, 0.41):
        n = np.arange(1, 2000, dtype=np.int32)
        k = np.maximum((keep * n).astype(np.int32), 1)
        # All gaps at their longest sum: the ones of any message of these are fewer.
        m = np.asarray(low_bits(n, k))
        found = ((n - k) >> m) + k * (1 + m)
        bound = np.asarray(most_position_bits(n, k))
        assert (np.maximum.accumulate(found) <= bound + 1).all()
