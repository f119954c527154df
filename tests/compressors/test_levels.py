"""QSGD with any number of levels, not those of a number of bits alone."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.compression.quantization import bits_from_levels, levels_from_bits
from fedjax_sl.compressors import qsgd, send
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.qsgd import Coder, levels_of_bits, most_levels
from tests.compressors.family import bits_of
from tests.draws import examples
from tests.worlds import assert_equal


every_coder = pytest.mark.parametrize("coder", get_args(Coder))


@pytest.mark.parametrize("signed", [True, False])
def test_bits_are_the_fewest_with_room(signed):
    traced = jax.jit(lambda s: bits_from_levels(s, signed=signed))
    for levels in [*range(1, 70), 2**16, 2**23 - 1]:
        bits = bits_from_levels(levels, signed=signed)
        assert traced(levels) == bits
        codes = 2 * levels + 1 if signed else levels
        assert codes <= 2**bits and (bits == 1 or codes > 2 ** (bits - 1))
    for bits in range(2, 17):
        levels = levels_from_bits(bits, signed=signed)
        assert bits_from_levels(levels, signed=signed) == bits


@pytest.mark.slow
@every_coder
@settings(max_examples=examples(15))
@given(levels=st.integers(1, 60), seed=st.integers(0, 1000))
def test_a_message_is_as_long_as_counted_and_read_back(coder, levels, seed):
    key = jax.random.key(seed)
    x = jax.random.normal(jax.random.fold_in(key, 1), (40,)) ** 3
    mask = jax.random.bernoulli(jax.random.fold_in(key, 2), 0.8, x.shape)
    wire, payload, counted = _sent(coder, levels, key, x, mask)
    message = wire.encode(jax.tree.map(np.asarray, payload), np.asarray(mask))
    assert message.num_bits == bits_of(counted)
    assert message.num_bits <= bits_of(wire.most(int(mask.sum()), mask.size))
    read = wire.decode(key, message, np.asarray(mask))
    assert read.norm == payload.norm
    np.testing.assert_array_equal(np.where(mask, read.level, 0), payload.level)


def _sent(coder, levels, key, x, mask):
    """The wire, a payload and its bits, counted with traced levels."""

    @jax.jit
    def compressed(levels):
        how = qsgd(levels=levels, coder=coder)
        payload, _ = how.compress(key, x, mask, ())
        return payload, how.wire.count(payload, mask)

    return qsgd(levels=levels, coder=coder).wire, *compressed(levels)


@pytest.mark.slow
@every_coder
def test_levels_of_a_number_of_bits_are_that_number_of_bits(coder, key):
    x, mask = jax.random.normal(jax.random.key(1), (50,)), jnp.ones(50, bool)
    for bits in (3, 8):
        usual = send(qsgd(bits=bits, coder=coder), key, x, mask)
        levels = levels_of_bits(bits, coder)
        assert_equal(usual, send(qsgd(levels=levels, coder=coder), key, x, mask))


def test_the_squared_error_falls_with_the_square_of_the_levels(key):
    x, mask = jax.random.normal(jax.random.key(1), (20000,)), jnp.ones(20000, bool)

    def error(levels):
        return ((send(qsgd(levels=levels), key, x, mask).values - x) ** 2).sum()

    assert error(24) / error(72) == pytest.approx(9, rel=0.05)


@every_coder
def test_levels_that_no_code_has_are_refused(coder):
    for levels in (0, most_levels(coder) + 1):
        with pytest.raises(ValueError, match=f"levels={levels}: expected 1 to"):
            qsgd(levels=levels, coder=coder)
    qsgd(levels=most_levels(coder), coder=coder)


def test_a_level_above_the_largest_is_refused(key):
    """Of 5 levels in the 3 bits of 8, by whoever sends others."""
    x, mask = jnp.linspace(-1, 1, 9), np.ones(9, bool)
    other = qsgd(levels=8, coder="omega")
    payload, _ = other.compress(key, x, jnp.asarray(mask), ())
    message = other.wire.encode(jax.tree.map(np.asarray, payload), mask)
    assert other.wire.decode(key, message, mask).level.max() == 8
    with pytest.raises(ValueError, match="holds a level above 5"):
        qsgd(levels=5, coder="omega").wire.decode(key, message, mask)


def test_a_configuration_has_them_with_its_other_options(key):
    x, mask = jax.random.normal(jax.random.key(1), (50,)), jnp.ones(50, bool)
    config = CompressorConfig(kind="qsgd", norm="l2", rounding="nearest", coder="rice")
    found = send(config.compressor(100), key, x, mask)
    same = qsgd(levels=100, norm="l2", rounding="nearest", coder="rice")
    assert_equal(found, send(same, key, x, mask))
