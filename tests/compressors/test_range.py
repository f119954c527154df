"""Messages of a range code: their length against the entropy, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedjax_sl.compression.code_length import entropy
from fedjax_sl.compression.coding import Message
from fedjax_sl.compressors import qsgd, uniform
from fedjax_sl.compressors.range import range_wire
from fedjax_sl.errors import InputError
from tests.compressors.family import bits_of


def wire_of(bits, num_codes=None):
    """A wire of codes alone."""
    return range_wire(
        bits=bits,
        scales=0,
        to_codes=lambda codes: ([], codes),
        of_codes=lambda scales, codes: codes,
        num_codes=num_codes or 1 << bits,
    )


@jax.jit
def counted(codes, mask, bits):
    return wire_of(bits).count(codes, mask)


def sent(codes, bits, mask):
    """The message of codes, as long as counted, and read back."""
    wire = wire_of(bits)
    message = wire.encode(codes, mask)
    assert len(message.data) == -(-message.num_bits // 8)
    count = counted(jnp.asarray(codes), jnp.asarray(mask), bits)
    assert bits_of(count) == message.num_bits
    found = wire.decode(None, message, mask)
    np.testing.assert_array_equal(found, np.where(mask, codes, 0))
    return message


HISTOGRAMS = {
    "equal": lambda rng, size, top: np.full(size, top),
    "zeros": lambda rng, size, top: np.zeros(size, int),
    "one outlier": lambda rng, size, top: np.where(
        np.arange(size) == size // 2, top, 0
    ),
    "two values": lambda rng, size, top: rng.choice([1, top], size),
    "uniform": lambda rng, size, top: rng.integers(0, top + 1, size),
    "all once": lambda rng, size, top: np.arange(size) % (top + 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2, 100, 100_000])
@pytest.mark.parametrize("kind", HISTOGRAMS)
@pytest.mark.parametrize("bits", [1, 4, 10, 24])
def test_extreme_messages_are_as_long_as_counted(size, kind, bits):
    rng = np.random.default_rng(size)
    codes = HISTOGRAMS[kind](rng, size, 2**bits - 1).astype(np.int32)
    message = sent(codes, bits, np.ones(size, bool))
    assert message.num_bits <= bits * size + 4
    if kind in ("equal", "zeros") and size == 100_000 and bits < 11:
        # One root, which is the expected one: three bits describe it.
        assert message.num_bits <= 4 + 3 + 2 * 10


@pytest.mark.slow
@given(st.data())
def test_no_message_is_much_longer_than_at_fixed_width(data):
    some = st.integers(0, data.draw(st.sampled_from([3, 20, 255])))
    codes = data.draw(npst.arrays(np.int32, 60, elements=some, fill=st.just(1)))
    mask = data.draw(npst.arrays(bool, 60))
    assert sent(codes, 8, mask).num_bits <= 8 * mask.sum() + 4


def of_distribution(name, bits, size):
    """The levels of a compressor, and their bits without the scales."""
    rng = np.random.default_rng(bits)
    normal, laplace = rng.normal(size=size), rng.laplace(size=size)
    x, compressor, scales = {
        "normal": (normal, qsgd(bits=bits, coder="range"), 1),
        "Laplace": (laplace, qsgd(bits=bits, coder="range"), 1),
        "2-norm": (laplace, qsgd(bits=bits, norm="l2", coder="range"), 1),
        "ReLU": (np.maximum(normal, 0), uniform(bits=bits, coder="range"), 2),
    }[name]
    mask = np.ones(size, bool)
    payload, _ = compressor.compress(
        jax.random.key(0), jnp.asarray(x, jnp.float32), jnp.asarray(mask), ()
    )
    message = compressor.wire.encode(jax.device_get(payload), mask)
    return np.asarray(payload.level), message.num_bits - 32 * scales


@pytest.mark.parametrize("bits", [2, 4, 6, 8, 10])
@pytest.mark.parametrize("name", ["normal", "Laplace", "2-norm", "ReLU"])
def test_levels_take_a_hundredth_more_than_their_entropy(name, bits):
    levels, found = of_distribution(name, bits, 100_000)
    least = len(levels) * entropy(levels)
    assert least < found <= 1.01 * least


def test_the_model_has_no_more_bits_than_it_saves():
    """Where codes are many and entries few, groups are of many codes."""
    levels, found = of_distribution("normal", 16, 10_000)
    # Differential entropy of a normal distribution, at the width of a level.
    step = 1 / np.abs(levels).max() * 3.9
    assert found <= 1.01 * 10_000 * (0.5 * np.log2(2 * np.pi * np.e) - np.log2(step))


@given(st.data())
def test_changed_messages_are_refused_or_others(data):
    """Whatever is read is written again as it was."""
    codes = np.minimum(np.random.default_rng(0).geometric(0.1, 60) - 1, 40)
    bits = data.draw(st.sampled_from([6, 8, 14]))
    wire, mask = wire_of(bits, num_codes=41), np.ones(60, bool)
    message = wire.encode(codes.astype(np.int32), mask)
    flags = np.unpackbits(np.frombuffer(message.data, np.uint8))[: message.num_bits]
    for place in data.draw(st.lists(st.integers(0, len(flags) - 1), max_size=4)):
        flags[place] ^= 1
    more = data.draw(npst.arrays(np.uint8, st.integers(0, 40), elements=st.just(0)))
    flags = np.concatenate([flags, more])[: data.draw(st.integers(0, len(flags) + 40))]
    changed = Message(np.packbits(flags).tobytes(), len(flags))
    try:
        found = wire.decode(None, changed, mask)
    except InputError:
        return
    assert found.shape == codes.shape and 0 <= found.min() <= found.max() <= 40
    assert wire.encode(found.astype(np.int32), mask) == changed


@pytest.mark.parametrize("size", [10, 10_000])
def test_codes_that_the_receiver_does_not_have_are_refused(size):
    """As they are, and in a range code."""
    codes = np.where(np.arange(size) == 3, 30, 2).astype(np.int32)
    mask = np.ones(size, bool)
    message = wire_of(5).encode(codes, mask)
    with pytest.raises(InputError, match="code 30: expected codes below 30"):
        wire_of(5, num_codes=30).decode(None, message, mask)


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_of_more_bits_are_refused(code):
    codes = np.asarray([0, code, 3], np.int32)
    with pytest.raises(InputError, match=r"codes .*: expected 4 bits each"):
        wire_of(4).encode(codes, np.ones(3, bool))


def test_arrays_whose_bits_overflow_are_refused():
    shape = jax.ShapeDtypeStruct((2**25,), jnp.int32)
    mask = jax.ShapeDtypeStruct((2**25,), bool)
    with pytest.raises(InputError, match="33554432 entries: expected less than 2"):
        jax.eval_shape(wire_of(4).count, shape, mask)
