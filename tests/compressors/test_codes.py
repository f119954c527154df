"""The levels of a payload, and what each code that takes them makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.code_length import entropy
from fedjax_sl.compressors import ef21, error_feedback, qsgd, top_k, uniform
from tests.compressors.family import FAMILY, bits_of


SHAPE = (30, 40)
WITH_LEVELS = [
    name for name, config in FAMILY.items() if config.compressor().levels is not None
]


def payload_of(compressor, key):
    """A payload of normal numbers under a mask, and the mask; on the host."""
    x = jax.random.normal(jax.random.key(1), SHAPE)
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, SHAPE)
    payload, _ = jax.jit(compressor.compress)(key, x, mask, compressor.init(x))
    return jax.device_get((payload, mask))


def test_what_has_levels_is_known():
    kinds = {FAMILY[name].kind for name in WITH_LEVELS}
    assert kinds >= {"qsgd", "uniform", "terngrad", "natural", "drive", "eden"}
    assert kinds.isdisjoint({"float32", "sign", "power_sgd"})
    assert "top_k-qsgd" in WITH_LEVELS and "top_k" not in WITH_LEVELS


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_LEVELS)
def test_every_code_carries_the_payload_in_bits_that_it_counts(name, key):
    compressor = FAMILY[name].compressor()
    payload, mask = payload_of(compressor, key)
    rebuilt = jax.jit(compressor.decompress)
    values = rebuilt(key, payload, mask)
    levels = compressor.levels.sent(payload, mask)
    assert levels.ndim == 1 and np.issubdtype(levels.dtype, np.integer)
    for coder, wire in compressor.levels.wires().items():
        message = wire.encode(payload, mask)
        assert message.num_bits == bits_of(wire.count(payload, mask)), coder
        assert message.num_bits > levels.size * entropy(levels), coder
        read = wire.decode(key, message, mask)
        read = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), read, payload)
        np.testing.assert_array_equal(rebuilt(key, read, mask), values, err_msg=coder)


@pytest.mark.parametrize("name", WITH_LEVELS)
def test_its_own_code_is_one_of_them(name, key):
    config = FAMILY[name]
    if "coder" in config.idle:
        return
    compressor = config.compressor()
    payload, mask = payload_of(compressor, key)
    own = compressor.levels.wires()[config.coder].encode(payload, mask)
    assert own == compressor.wire.encode(payload, mask)


def test_codes_without_room_for_the_levels_are_left_out():
    def coders(compressor):
        return set(compressor.levels.wires())

    every = {"fixed", "rice", "range", "omega", "gamma", "delta"}
    assert coders(qsgd(levels=2**11 - 1)) == every
    assert coders(qsgd(levels=2**11)) == every - {"rice"}
    assert coders(qsgd(levels=2**16)) == every - {"rice"}
    assert coders(qsgd(levels=2**16 + 1)) == {"fixed", "range"}
    assert coders(uniform(bits=12)) == {"fixed", "rice", "range"}
    assert coders(uniform(bits=13)) == {"fixed", "range"}


@pytest.mark.parametrize("feedback", [error_feedback, ef21])
def test_feedback_has_the_levels_of_what_it_sends(feedback, key):
    inner = top_k(keep=0.3, values=qsgd(bits=4))
    payload, mask = payload_of(feedback(inner), key)
    # Before the first message there is nothing to make up for.
    plain, _ = payload_of(inner, key)
    found, expected = feedback(inner).levels, inner.levels
    np.testing.assert_array_equal(found.sent(payload, mask), expected.sent(plain, mask))
    assert found.sent(payload, mask).size == plain.sent.sum() > 0
    for coder, wire in expected.wires().items():
        again = found.wires()[coder].encode(payload, mask)
        assert again == wire.encode(plain, mask)
