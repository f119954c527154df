"""A model's arrays as bytes: what is rebuilt, how long it is, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors import ef21, error_feedback, identity, qsgd, random_k, top_k
from fedjax_sl.compressors.arrays import (
    init_states,
    pack,
    pack_with_states,
    packed_bits,
    unpack,
)
from fedjax_sl.errors import InputError
from tests.compressors.family import FAMILY, bits_of


each = pytest.mark.parametrize("name", FAMILY)
KINDS = ["float32", "float64", "float16", "bfloat16"]


def model(seed):
    """Arrays of a model: weights, a number, and what is no float."""
    rng = np.random.default_rng(seed)
    shapes = [(6, 7), (5,), (), (0, 3), (2, 3, 4)]
    floats = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    return [
        *floats,
        np.asarray([seed, 2**60 + seed]),
        np.asarray(seed, np.uint8),
        rng.random(9) < 0.5,
    ]


@pytest.mark.slow
@each
def test_arrays_are_rebuilt_as_their_messages_say(name, key):
    compressor, arrays, held = FAMILY[name].compressor(), model(1), model(0)
    data = pack(compressor, key, arrays, held)
    found = unpack(compressor, key, data, held)
    bits = []
    for index, (x, old, new) in enumerate(zip(arrays, held, found, strict=True)):
        assert isinstance(new, np.ndarray)
        assert new.shape == x.shape and new.dtype == x.dtype
        if x.dtype.kind != "f" or not x.size:
            np.testing.assert_array_equal(new, x)
            bits.append(8 * x.nbytes)
            continue
        change, mask = jnp.asarray(x - old), np.ones(x.shape, bool)
        own = jax.random.fold_in(key, index)
        payload, _ = jax.jit(compressor.compress)(own, change, mask, ())
        whole = jax.jit(compressor.decompress)(own, payload, mask)
        expected = np.float32(old.astype(float) + np.asarray(whole, float))
        np.testing.assert_array_equal(new, expected)
        bits.append(bits_of(compressor.wire.count(payload, jnp.asarray(mask))))
    assert packed_bits(data) == sum(bits)
    # The number of arrays, the bits of each, and whole bytes.
    assert len(data) == 4 + 8 * len(bits) + sum(-(-each // 8) for each in bits)


@pytest.mark.parametrize("kind", KINDS)
def test_floats_keep_their_type(kind, key):
    kind = jnp.dtype(kind)
    held = np.asarray([1.0, -2.0, 0.5], kind)
    x = np.asarray([1.5, -2.0, 0.25], kind)
    (found,) = unpack(identity(), key, pack(identity(), key, [x], [held]), [held])
    assert found.dtype == kind
    np.testing.assert_array_equal(found, x)


def test_integers_may_come_where_floats_are_held(key):
    """A server that averages counters holds floats from then on."""
    x, held = np.asarray([3, 5]), np.asarray([1.5, 2.25])
    (found,) = unpack(identity(), key, pack(identity(), key, [x], [held]), [held])
    assert found.dtype == held.dtype and found.tolist() == [3.0, 5.0]


def test_every_array_has_draws_of_its_own(key):
    x, held = np.ones((2, 50), np.float32), np.zeros((2, 50), np.float32)
    compressor = random_k(keep=0.2)
    found = unpack(compressor, key, pack(compressor, key, x, held), held)
    other = jax.random.fold_in(key, 1)
    again = unpack(compressor, other, pack(compressor, other, x, held), held)
    sent = [array != 0 for array in (*found, *again)]
    assert all(mask.sum() == 10 for mask in sent)
    assert len({mask.tobytes() for mask in sent}) == 4


def test_what_error_feedback_leaves_out_is_sent_later(key):
    compressor, held = error_feedback(top_k(keep=0.1)), model(0)
    states, total = init_states(compressor, held), 0.0
    for step in range(5):
        arrays, own = model(step), jax.random.fold_in(key, step)
        data, states = pack_with_states(compressor, own, arrays, held, states=states)
        back = unpack(compressor, own, data, held)
        total += (back[0] - arrays[0]).astype(float)
    assert np.abs(states[0].kept).max() > 0.1
    np.testing.assert_allclose(total, -np.asarray(states[0].kept), atol=1e-5)
    # Integers and flags are sent as they are.
    assert not any(state.kept.any() for state in states[5:])


def given(**changes):
    return {"compressor": identity(), "arrays": model(1), "held": model(0), **changes}


@pytest.mark.parametrize(
    "case, named",
    [
        (given(arrays=model(1)[:3]), "3 arrays and 3 states: expected 8 of each"),
        (given(arrays=[*model(1)[:7], np.ones(3, bool)]), r"\[7\]: bool \[3\]: expect"),
        (given(arrays=[np.ones(42), *model(1)[1:]]), r"arrays\[0\]: float64 \[42\]: e"),
        (given(arrays=[np.ones((6, 7)) + 1j, *model(1)[1:]]), r"expected float32 \[6"),
        (
            given(arrays=[*model(1)[:7], np.ones(9)]),
            r"\[7\]: float64 \[9\]: expected b",
        ),
        (given(arrays=[1j], held=[1j]), r"complex128 \[\]: expected .* of floats, int"),
        (given(arrays=[["a"]], held=[["a"]]), r"<U1 \[1\]: expected .* of floats, int"),
        (given(arrays=[[np.nan]], held=[[1.0]]), r"arrays\[0\]: expected finite chang"),
        (given(arrays=[[1e300]], held=[[1.0]]), r"arrays\[0\]: expected finite change"),
        (given(arrays=[[1e38]], held=[[0.0]]), "expected finite changes of at most"),
        (given(compressor=error_feedback(top_k())), "compressor: expected one without"),
    ],
)
def test_arrays_that_cannot_be_sent_are_refused(case, named, key):
    with pytest.raises(InputError, match=named):
        pack(case["compressor"], key, case["arrays"], case["held"])


def test_a_receiver_keeps_no_state(key):
    compressor, arrays = ef21(qsgd()), model(0)
    states = init_states(compressor, arrays)
    with pytest.raises(InputError, match=r"arrays\[0\]: .* not ef21"):
        pack_with_states(compressor, key, arrays, arrays, states=states)


def test_bytes_that_are_none_of_these_arrays_are_refused(key):
    held = model(0)
    data = pack(qsgd(), key, model(1), held)
    for length in range(len(data)):
        with pytest.raises(InputError, match=r"bytes|hold"):
            unpack(qsgd(), key, data[:length], held)
    for wrong, named in [
        (data + b"\0", "not as long as their messages"),
        (b"\xff\xff\xff\xff" + data[4:], "do not hold 4294967295 arrays"),
        (data[:4] + b"\xff" * 64 + data[68:], "not as long as their messages"),
        (data[:-1] + b"\2", r"arrays\[7\]: .* no flag"),
    ]:
        with pytest.raises(InputError, match=named):
            unpack(qsgd(), key, wrong, held)
    with pytest.raises(InputError, match="hold 8 arrays: expected 7"):
        unpack(qsgd(), key, data, held[:7])
    with pytest.raises(InputError, match=r"arrays\[0\]: message of 46 bytes and 368 "):
        unpack(qsgd(), key, data, [held[0].T[:5].copy(), *held[1:]])
    with pytest.raises(InputError, match=r"arrays\[5\]: message of 128 bits: expecte"):
        unpack(qsgd(), key, data, [*held[:5], np.zeros(1, int), *held[6:]])


def test_what_would_not_be_finite_is_refused(key):
    zero, large = np.zeros(3, np.float16), np.full(3, 60_000, np.float16)
    data = pack(identity(), key, [large], [zero])
    np.testing.assert_array_equal(unpack(identity(), key, data, [zero])[0], large)
    with pytest.raises(InputError, match=r"arrays\[0\]: expected finite entries"):
        unpack(identity(), key, data, [large])


@each
def test_malformed_bytes_are_refused_or_read(name, key):
    compressor, held, rng = (
        FAMILY[name].compressor(),
        model(0),
        np.random.default_rng(0),
    )
    data = np.frombuffer(pack(compressor, key, model(1), held), np.uint8)
    read = 0
    for _ in range(100):
        bad = data.copy()
        places = rng.integers(0, len(bad), rng.integers(1, 4))
        bad[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
        try:
            found = unpack(compressor, key, bad.tobytes(), held)
        except InputError:
            continue
        read += 1
        for x, old in zip(found, held, strict=True):
            assert x.shape == old.shape and x.dtype == old.dtype
            assert np.isfinite(x).all()
    assert read
