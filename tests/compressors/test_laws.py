"""Laws that every compressor has to keep; a new one is tested once it is registered."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedjax_sl.compression.coding import Message
from fedjax_sl.compressors import COMPRESSORS, send
from fedjax_sl.compressors.config import CompressorConfig
from tests.commands import PATIENCE
from tests.compressors.family import FAMILY, bits_of
from tests.draws import examples


SHAPES = [(1,), (7,), (3, 4, 5)]
HUGE = float(np.float32(1e36))
ROOT_OF_HUGE = float(np.float32(1e17))
"""A 2-norm is a sum of squares in float32."""
each = pytest.mark.parametrize("name", FAMILY)


def made(name):
    return FAMILY[name].compressor()


@partial(jax.jit, static_argnames="name")
def _compressed(name, key, x, mask):
    compressor = made(name)
    payload, _ = compressor.compress(key, x, mask, compressor.init(x))
    return payload, compressor.wire.count(payload, mask)


@partial(jax.jit, static_argnames="name")
def rebuilt(name, key, payload, mask):
    return made(name).decompress(key, payload, mask)


def compressed(name, key, x, mask):
    """Payload, values and counted bits."""
    payload, link = _compressed(name, key, jnp.asarray(x), jnp.asarray(mask))
    return payload, rebuilt(name, key, payload, jnp.asarray(mask)), link


def arrays(name, shape):
    """Arrays of zeros, ties, ordinary, huge and tiny numbers, with masks."""
    top = ROOT_OF_HUGE if FAMILY[name].norm == "l2" else HUGE
    numbers = st.floats(-top, top, width=32) | st.sampled_from(
        [0.0, 1.0, -1.0, 1e-40, -1e-38, top, -3.0]
    )
    return st.tuples(
        npst.arrays(np.float32, shape, elements=numbers), npst.arrays(bool, shape)
    )


def test_the_family_has_every_kind():
    assert {config.kind for config in FAMILY.values()} == set(COMPRESSORS)


@each
@settings(max_examples=examples(30))
@given(data=st.data(), seed=st.integers(0, 2**31 - 1))
def test_a_message_is_as_long_as_counted_and_read_back(name, data, seed):
    x, mask = data.draw(st.sampled_from(SHAPES).flatmap(partial(arrays, name)))
    key = jax.random.key(seed)
    payload, values, link = compressed(name, key, x, mask)
    compressor = made(name)
    message = compressor.wire.encode(jax.tree.map(np.asarray, payload), mask)
    assert len(message.data) == -(-message.num_bits // 8)
    assert bits_of(link) == message.num_bits
    assert bits_of(compressor.wire.most(mask.sum(), mask.size)) >= message.num_bits
    read = compressor.wire.decode(key, message, mask)
    read = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), read, payload)
    np.testing.assert_array_equal(rebuilt(name, key, read, jnp.asarray(mask)), values)


@each
@settings(max_examples=examples(20))
@given(data=st.data())
def test_what_is_rebuilt_is_finite_and_within_the_mask(name, data):
    x, mask = data.draw(st.sampled_from(SHAPES).flatmap(partial(arrays, name)))
    _, values, _ = compressed(name, jax.random.key(1), x, mask)
    assert np.isfinite(values).all()
    assert not np.asarray(values)[~mask].any()


@each
def test_entries_outside_the_mask_have_no_effect(name, key):
    x = jax.random.normal(jax.random.key(1), (3, 4, 5))
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, x.shape)
    other = jnp.where(mask, x, 1e9)
    found, changed = (compressed(name, key, each, mask) for each in (x, other))
    jax.tree.map(np.testing.assert_array_equal, found, changed)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_and_never_hidden(name, bad, key):
    x = np.ones((3, 4, 5), np.float32)
    x[1, 2, 3] = bad
    mask = np.ones(x.shape, bool)
    payload, values, _ = compressed(name, key, x, mask)
    sent = np.asarray(made(name).sent(payload, jnp.asarray(mask)))[1, 2, 3]
    # Random entries are drawn whatever they hold: this one may not be sent.
    if not sent:
        return
    assert not np.isfinite(values).all()
    with pytest.raises(ValueError, match=r"nan|finite"):
        made(name).wire.encode(jax.tree.map(np.asarray, payload), mask)


@each
def test_gradients_are_those_of_what_is_sent(name, key):
    x = jax.random.normal(jax.random.key(1), (3, 4, 5))
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, x.shape)
    weight = jax.random.normal(jax.random.key(3), x.shape)

    def objective(x):
        received = send(made(name), key, x, mask)
        return jnp.vdot(weight, received.values), received.sent

    grad, sent = jax.grad(objective, has_aux=True)(x)
    assert not grad[~sent].any() and sent.any() and not sent[~mask].any()
    payload, _, _ = compressed(name, key, x, mask)

    def linear(x):
        return jnp.vdot(weight, made(name).linear(payload, mask, x))

    np.testing.assert_allclose(grad, jax.grad(linear)(x), rtol=1e-5, atol=1e-6)
    # It is the map from what is sent to what is received, but for rounding.
    y = jax.random.normal(jax.random.key(4), x.shape)
    both = linear(x + 2 * y)
    np.testing.assert_allclose(both, linear(x) + 2 * linear(y), rtol=1e-4, atol=1e-4)


@each
def test_clients_are_mapped_with_numbers_of_their_own(name, key):
    config, keys = FAMILY[name], jax.random.split(key, 3)
    x = jax.random.normal(jax.random.key(1), (3, 60))
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, x.shape)
    bits, keep = jnp.asarray([2, 5, 8]), jnp.asarray([0.1, 0.3, 1.0])

    def client(key, x, mask, bits, keep):
        own = {"bits": bits, "keep": keep}
        compressor = _with(config, own).compressor()
        payload, _ = compressor.compress(key, x, mask, ())
        return compressor.decompress(key, payload, mask), compressor.wire.count(
            payload, mask
        )

    found = jax.vmap(client)(keys, x, mask, bits, keep)
    for k in range(3):
        numbers = {"bits": int(bits[k]), "keep": float(keep[k])}
        alone = _with(config, numbers).compressor()
        payload, _ = alone.compress(keys[k], x[k], mask[k], ())
        values = alone.decompress(keys[k], payload, mask[k])
        np.testing.assert_allclose(found[0][k], values, rtol=1e-5, atol=1e-5)
        link = jax.tree.map(lambda leaf, k=k: leaf[k], found[1])
        assert bits_of(link) == bits_of(alone.wire.count(payload, mask[k]))


def _with(config, numbers):
    values = {f: getattr(config, f) for f in CompressorConfig.__dataclass_fields__}
    return CompressorConfig(**{**values, **numbers})


@each
@settings(max_examples=examples(30))
@given(data=st.binary(max_size=40), bits=st.integers(-8, 8), empty=st.booleans())
def test_malformed_messages_are_refused_or_read(name, data, bits, empty):
    mask = np.zeros((3, 4, 5), bool) if empty else np.ones((3, 4, 5), bool)
    message = Message(data, 8 * len(data) + bits)
    try:
        payload = made(name).wire.decode(jax.random.key(0), message, mask)
    except ValueError:
        return
    # What is read is a message: it is written again as it was.
    again = made(name).wire.encode(payload, mask)
    assert again == message


def test_a_configuration_is_made_before_devices_are_chosen():
    """In a process of its own: this one has its devices."""
    text = """if True:
        import jax
        from tests.compressors.family import FAMILY
        for config in FAMILY.values():
            config.compressor()
        jax.config.update("jax_num_cpu_devices", 3)
        assert len(jax.devices()) == 3
    """
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
