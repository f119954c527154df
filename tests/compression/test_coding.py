"""Elias codes and messages, against strings written out by hand."""

import itertools
import struct

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.coding import (
    CODES,
    Message,
    decode,
    elias_lengths,
    encode,
    message_bits,
)
from fedjax_sl.compression.quantization import Quantized, levels_from_bits, quantize
from tests.draws import examples


CODEWORDS = {  # of gamma, delta and omega
    1: ("1", "1", "0"),
    2: ("010", "0100", "100"),
    3: ("011", "0101", "110"),
    4: ("00100", "01100", "101000"),
    8: ("0001000", "00100000", "1110000"),
    10: ("0001010", "00100010", "1110100"),
    16: ("000010000", "001010000", "10100100000"),
    17: ("000010001", "001010001", "10100100010"),
    100: ("0000001100100", "00111100100", "1011011001000"),
    1025: ("000000000010000000001", "00010110000000001", "111010100000000010"),
}


def codeword(k, code):
    """A codeword as a string, straight from the definitions."""
    binary = format(k, "b")
    if code == "gamma":
        return "0" * (len(binary) - 1) + binary
    if code == "delta":
        return codeword(len(binary), "gamma") + binary[1:]
    text = "0"
    while k > 1:
        text = format(k, "b") + text
        k = len(format(k, "b")) - 1
    return text


def bits_of(message):
    text = "".join(format(byte, "08b") for byte in message.data)
    assert set(text[message.num_bits :]) <= {"0"}
    return text[: message.num_bits]


def written_out(norm, bits, levels, code):
    """A message as a string, straight from Algorithm 1."""
    (word,) = struct.unpack(">I", struct.pack(">f", norm))
    pairs = (codeword(abs(x) + 1, code) + str(int(x < 0)) for x in levels)
    return format(word, "032b") + codeword(bits, code) + "".join(pairs)


def layer(norm, levels):
    return Quantized(np.float32(norm), np.array(levels, np.int32))


def message_of(text):
    padded = text + "0" * (-len(text) % 8)
    data = bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
    return Message(data, len(text))


@pytest.mark.parametrize("k", CODEWORDS)
def test_codewords_of_the_table(k):
    assert (
        tuple(codeword(k, code) for code in ("gamma", "delta", "omega")) == CODEWORDS[k]
    )
    for place, code in enumerate(("gamma", "delta", "omega")):
        text = bits_of(encode(layer(1, [k - 1]), bits=10, code=code))
        assert text[32 + len(codeword(10, code)) : -1] == CODEWORDS[k][place]


@pytest.mark.parametrize("code", CODES)
def test_lengths_are_those_of_the_codewords_and_no_codeword_starts_another(code):
    words = [codeword(k, code) for k in range(1, 3001)]
    lengths = elias_lengths(jnp.arange(1, 3001), code=code)
    np.testing.assert_array_equal(lengths, [len(word) for word in words])
    ordered = sorted(words)
    assert not any(b.startswith(a) for a, b in itertools.pairwise(ordered))
    large = [2**e + d for e in range(2, 31) for d in (-1, 0, 1)] + [2**31 - 1]
    np.testing.assert_array_equal(
        elias_lengths(jnp.array(large), code=code),
        [len(codeword(k, code)) for k in large],
    )


WORKED = {
    "W1": (
        [1, -1, 1, 1, 0],
        2,
        "01000000000000000000000000000000",
        "100  110 0 110 1 110 0 110 0 0 0",
        (53, 53, 58),
    ),
    "W2": (
        [1, 1, -1, 1, 2, -2, 2],
        2,
        "01000000100000000000000000000000",
        "100  100 0 100 0 100 1 100 0 110 0 110 1 110 0",
        (63, 63, 71),
    ),
    "W3": (
        [0, -3],
        10,
        "01000000010000000000000000000000",
        "1110100  0 0 111010100000000010 1",
        (60, 63, 60),
    ),
    "W4": (
        [1, -1, 1, 1, 0],
        10,
        "01000000000000000000000000000000",
        None,
        (113, 121, 110),
    ),
    "W5": ([0, 0, 0], 8, "0" * 32, "1110000  0 0 0 0 0 0", (45, 45, 46)),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_messages(name, key):
    g, bits, norm, omega, lengths = WORKED[name]
    levels = levels_from_bits(bits, signed=False)
    quantized = quantize(key, jnp.array(g, jnp.float32), levels=levels, norm="l2")
    for code, length in zip(("omega", "gamma", "delta"), lengths, strict=True):
        message = encode(quantized, bits=bits, code=code)
        assert (
            message.num_bits == length == message_bits(quantized, bits=bits, code=code)
        )
        assert bits_of(message)[:32] == norm
    if omega:
        assert bits_of(encode(quantized, bits=bits))[32:] == omega.replace(" ", "")


def test_the_worked_message_that_is_random(key):
    outcomes = {
        (2, 3): (
            0.48,
            "100" + "110" + "0" + "101000" + "1",
            46,
        ),
        (3, 3): (0.32, "100" + "101000" + "0" + "101000" + "1", 49),
        (2, 4): (0.12, "100" + "110" + "0" + "101010" + "1", 46),
        (3, 4): (0.08, "100" + "101000" + "0" + "101010" + "1", 49),
    }
    g = jnp.array([3.0, -4.0])
    n = 4000
    many = jax.vmap(lambda k: quantize(k, g, levels=4, norm="l2"))(
        jax.random.split(key, n)
    )
    lengths = jax.vmap(lambda q: message_bits(q, bits=2))(many)
    seen = [tuple(row) for row in abs(np.asarray(many.level)).tolist()]
    for levels, (share, text, length) in outcomes.items():
        count = sum(one == levels for one in seen)
        assert abs(count / n - share) < 5 * (share * (1 - share) / n) ** 0.5
        one = encode(layer(5, [levels[0], -levels[1]]), bits=2)
        assert bits_of(one) == "01000000101000000000000000000000" + text
        assert one.num_bits == length
    assert abs(lengths.mean() - 47.2) < 5 * float(lengths.std()) / n**0.5


@hypothesis.given(
    bits=st.integers(1, 16),
    code=st.sampled_from(CODES),
    norm=st.floats(0, 2.0**127, width=32, allow_subnormal=False),
    data=st.data(),
)
@hypothesis.settings(max_examples=examples(150))
def test_round_trip_bit_for_bit(bits, code, norm, data):
    near = st.integers(-min(40, 2**bits), min(40, 2**bits))
    level = near | st.integers(-(2**bits), 2**bits)
    levels = data.draw(st.lists(level, max_size=200))
    quantized = layer(norm, levels)
    message = encode(quantized, bits=bits, code=code)
    assert bits_of(message) == written_out(norm, bits, levels, code)
    back, read_bits = decode(message, code=code)
    assert read_bits == bits
    assert back.norm.tobytes() == quantized.norm.tobytes()
    np.testing.assert_array_equal(back.level, levels)


@pytest.mark.parametrize("code", CODES)
def test_lengths_inside_a_compiled_and_mapped_program(code, key):
    x = jax.random.normal(key, (5, 300))
    bits = jnp.array([1, 4, 8, 10, 16])

    @jax.jit
    @jax.vmap
    def quantized_and_length(x, bits):
        quantized = quantize(
            key, x, levels=levels_from_bits(bits, signed=False), norm="l2"
        )
        return quantized, message_bits(quantized, bits=bits, code=code)

    many, lengths = quantized_and_length(x, bits)
    for number, b in enumerate(bits.tolist()):
        one = jax.tree.map(lambda leaf, n=number: np.asarray(leaf[n]), many)
        assert encode(one, bits=b, code=code).num_bits == lengths[number]


@pytest.mark.parametrize("code", CODES)
def test_every_truncation_is_noticed_or_is_a_message(code):
    text = written_out(1.5, 8, [0, 3, -1, 250, 0, -256, 1], code)
    ends = [
        len(written_out(1.5, 8, [0, 3, -1, 250, 0, -256, 1][:n], code))
        for n in range(8)
    ]
    for length in range(len(text)):
        if length in ends:
            assert len(
                decode(message_of(text[:length]), code=code)[0].level
            ) == ends.index(length)
        else:
            with pytest.raises(ValueError):
                decode(message_of(text[:length]), code=code)


def test_bits_beyond_the_end_are_noticed():
    message = encode(layer(1, [1, 2, 3]), bits=4)
    for data, num_bits in (
        (message.data + b"\0", message.num_bits),
        (message.data[:-1], message.num_bits),
        (message.data[:-1] + bytes([message.data[-1] | 1]), message.num_bits),
        (b"", 0),
        (b"", -8),
        (message.data, 10**12),
    ):
        assert -message.num_bits % 8 > 0
        with pytest.raises(ValueError):
            decode(Message(data, num_bits))


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), -1.0])
def test_a_norm_that_is_none_is_refused(norm):
    with pytest.raises(ValueError, match="norm"):
        encode(layer(norm, [1]), bits=4)
    with pytest.raises(ValueError, match="norm"):
        decode(message_of(written_out(norm, 4, [1], "omega")))


def test_a_level_too_large_is_refused_by_both_sides():
    for levels in ([5], [1, -5, 0], [40, 0], [0, 0, 2000]):
        with pytest.raises(ValueError):
            encode(layer(1, levels), bits=2)
        with pytest.raises(ValueError):
            decode(message_of(written_out(1, 2, levels, "omega")))


@pytest.mark.parametrize(
    "levels, said",
    [
        (np.array([2**32 + 1], np.int64), "levels in -16..16"),
        (np.array([1, -(2**40)], np.int64), "levels in -16..16"),
        (np.array([2**63 + 5], np.uint64), "levels in -16..16"),
        (np.array([1.7]), "levels of dtype float64: expected integers"),
        (np.array([2.0], np.float32), "levels of dtype float32: expected integers"),
        (np.array([True]), "levels of dtype bool: expected integers"),
    ],
)
def test_levels_are_looked_at_before_they_are_converted(levels, said):
    with pytest.raises(ValueError, match=said):
        encode(Quantized(np.float32(1), levels), bits=4)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16])
def test_levels_of_any_integers_are_the_same_message(dtype):
    levels = np.array([[3, 0], [16, 1]])
    wide = Quantized(np.float32(1), levels.astype(dtype))  # type: ignore[arg-type]
    assert encode(wide, bits=4) == encode(layer(1, levels.reshape(-1)), bits=4)
    nothing = Quantized(np.float32(0), np.zeros(0, dtype))  # type: ignore[arg-type]
    assert decode(encode(nothing, bits=4))[0].level.size == 0


def test_what_is_no_number_of_bits_or_no_norm_is_refused():
    for bits in (4.7, "4", None, True):
        for count in (encode, message_bits):
            with pytest.raises(ValueError, match="bits=.*: expected an integer"):
                count(layer(1, [0]), bits=bits)
    for norm in (1e39, np.ones(1), np.nan):
        with pytest.raises(ValueError, match="norm=.*: expected a finite float32"):
            encode(Quantized(norm, np.zeros(1, np.int32)), bits=4)
    message = encode(layer(1, [1]), bits=np.int64(4))
    with pytest.raises(ValueError, match="num_bits=.*: expected an integer"):
        decode(Message(message.data, float(message.num_bits)))  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: expected 1 to 16"):
        encode(layer(1, [0]), bits=bits)
    with pytest.raises(ValueError, match=f"bits={bits}: expected 1 to 16"):
        message_bits(layer(1, [0]), bits=bits)
    if bits > 0:
        with pytest.raises(ValueError):
            decode(message_of(written_out(1, bits, [0], "gamma")), code="gamma")


def test_an_unknown_code_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        encode(layer(1, [0]), bits=4, code="rice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of"):
        elias_lengths(1, code="rice")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", CODES)
def test_whatever_is_read_is_a_message_or_refused(code):
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(4000):
        levels = rng.integers(-4, 5, rng.integers(0, 30)).tolist()
        message = encode(
            layer(rng.random(), levels), bits=int(rng.integers(2, 12)), code=code
        )
        data, num_bits = bytearray(message.data), message.num_bits
        kind = rng.integers(4)
        if kind == 0:
            data = bytearray(rng.bytes(len(data)))
        elif kind == 1:
            for place in rng.integers(0, num_bits, rng.integers(1, 4)):
                data[place // 8] ^= 0x80 >> (place % 8)
        elif kind == 2:
            num_bits = int(rng.integers(-3, num_bits + 20))
        else:
            data += rng.bytes(rng.integers(1, 9))
            num_bits = 8 * len(data) - int(rng.integers(0, 8))
        hostile = Message(bytes(data), num_bits)
        try:
            back, bits = decode(hostile, code=code)
        except ValueError:
            continue
        accepted += 1
        assert encode(back, bits=bits, code=code) == hostile
        assert back.level.nbytes <= 16 * len(hostile.data)
    assert 50 < accepted < 3900
