"""Malformed messages, many of them: each is refused in a sentence, or is a message."""

import os
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.coding import Message
from fedjax_sl.compression.golomb_rice import rice_flags
from fedjax_sl.compression.packing import of_floats, packed, to_flags
from fedjax_sl.compressors import ef21, error_feedback, qsgd, top_k, uniform
from fedjax_sl.compressors.variable import HEADER
from fedjax_sl.errors import InputError
from tests.commands import PATIENCE
from tests.compressors.family import FAMILY


TOTAL = 100_000
"""Messages, over all compressors."""

OTHERS = {
    "qsgd-gamma": qsgd(bits=3, coder="gamma"),
    "qsgd-omega-16": qsgd(bits=16, coder="omega"),
    "qsgd-24": qsgd(bits=24),
    "uniform-rice-12": uniform(bits=12, coder="rice"),
    "top_k-rice": top_k(keep=0.3, values=qsgd(bits=4, coder="rice")),
    "top_k-omega": top_k(keep=0.3, values=qsgd(bits=4, coder="omega")),
    "error_feedback": error_feedback(top_k(keep=0.1)),
    "ef21": ef21(uniform(bits=3)),
}
"""Codes, and combinations, that the family has no setting of."""

COMPRESSORS = {
    **{name: config.compressor() for name, config in FAMILY.items()},
    **OTHERS,
}
each = pytest.mark.parametrize("name", COMPRESSORS)
LONG = 100_000
"""Bytes of a message that is far too long."""

MANY = 4100
"""Entries of an array of more than one block of a rotation."""

SHAPES = [(60,), (6, 10), (1,), (37,)]


def real_messages(compressor, key):
    """Messages of arrays of a few distributions and masks, with those masks."""
    rng = np.random.default_rng(0)
    given = []
    for shape in SHAPES:
        for x in (rng.normal(size=shape), rng.exponential(size=shape) ** 3):
            masks = np.ones(shape, bool), rng.random(shape) < 0.6, np.zeros(shape, bool)
            given += [(x, mask) for mask in masks]
    given.append((rng.normal(size=MANY), np.ones(MANY, bool)))
    found = []
    for x, mask in given:
        x = jnp.asarray(x, jnp.float32)
        payload, _ = compressor.compress(key, x, mask, compressor.init(x))
        payload = jax.tree.map(np.asarray, payload)
        found.append((compressor.wire.encode(payload, mask), mask))
    return found


def flipped(rng, message, other):
    """One bit to four bits are others; those past the end, too."""
    data = np.frombuffer(message.data, np.uint8).copy()
    if not data.size:
        return random(rng, message, other)
    places = rng.integers(0, data.size, rng.integers(1, 5))
    data[places] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
    return message._replace(data=data.tobytes())


def cut(rng, message, other):
    """The first bits, padded as a message is."""
    num_bits = int(rng.integers(0, message.num_bits + 1))
    bits = np.unpackbits(np.frombuffer(message.data, np.uint8))[:num_bits]
    return Message(np.packbits(bits).tobytes(), num_bits)


def extended(rng, message, other):
    """More bits, which are random."""
    bits = np.unpackbits(np.frombuffer(message.data, np.uint8))[: message.num_bits]
    more = rng.integers(0, 2, rng.integers(1, 80), np.uint8)
    bits = np.concatenate([bits, more])
    return Message(np.packbits(bits).tobytes(), len(bits))


def miscounted(rng, message, other):
    """A number of bits that is not that of the bytes, negative or huge ones, too."""
    wrong = rng.integers(-20, 20), -message.num_bits, 2**31, 2**62, 2**80
    return message._replace(num_bits=message.num_bits + int(wrong[rng.integers(5)]))


def spliced(rng, message, other):
    """The first bits of one message, and the last ones of another."""
    head, tail = (
        np.unpackbits(np.frombuffer(each.data, np.uint8))[: each.num_bits]
        for each in (message, other)
    )
    place = rng.integers(0, len(head) + 1)
    from_ = place if rng.random() < 0.5 else rng.integers(0, len(tail) + 1)
    bits = np.concatenate([head[:place], tail[from_:]])
    return Message(np.packbits(bits).tobytes(), len(bits))


def scaled(rng, message, other):
    """Random words where most messages have their scales."""
    return message._replace(data=(rng.bytes(4) + message.data[4:])[: len(message.data)])


def random(rng, message, other):
    """Nothing but random bytes, mostly as many as a message has."""
    length = len(message.data) + int(rng.integers(-2, 3)) * int(rng.integers(0, 2))
    data = rng.bytes(max(length, 0))
    if rng.random() < 0.5 and len(data) == len(message.data):
        # Clear what lies past the end, so that the rest is looked at.
        spare = 8 * len(data) - message.num_bits
        last = [data[-1] >> spare << spare] if data else []
        return Message(data[:-1] + bytes(last), message.num_bits)
    return Message(data, 8 * len(data) - int(rng.integers(0, 8)))


MUTATIONS = [flipped, cut, extended, miscounted, spliced, scaled, random]


def read(compressor, key, message, mask):
    """The message as it is written again, or None if it is refused."""
    try:
        payload = compressor.wire.decode(key, message, mask)
    except InputError:
        return None
    return compressor.wire.encode(payload, mask)


@pytest.mark.slow
@each
def test_mutated_messages_are_refused_or_read(name, key):
    compressor, rng = COMPRESSORS[name], np.random.default_rng(1)
    messages = real_messages(compressor, key)
    accepted = refused = 0
    for _ in range(TOTAL // len(COMPRESSORS) + 1):
        message, mask = messages[rng.integers(len(messages))]
        other, _ = messages[rng.integers(len(messages))]
        mutated = MUTATIONS[rng.integers(len(MUTATIONS))](rng, message, other)
        again = read(compressor, key, mutated, mask)
        assert again is None or again == mutated
        accepted += again is not None
        refused += again is None
    # Both happen, and often: the mutations are neither harmless nor plain noise.
    assert min(accepted, refused) > 300


@pytest.mark.slow
def test_compiled_decoders_read_nothing_beyond_a_message(tmp_path):
    """Again where Numba checks every index, which takes code of its own."""
    compiled = "rice or omega or gamma or delta or top_k"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-k", f"mutated and ({compiled})"],
        env={
            **os.environ,
            "NUMBA_BOUNDSCHECK": "1",
            "NUMBA_CACHE_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout


@each
@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
def test_memory_is_bounded_by_the_message(name, kind, key):
    """Of a long message for a short array."""
    compressor, mask = COMPRESSORS[name], np.ones(60, bool)
    data = {
        "random": np.random.default_rng(0).bytes(LONG),
        "zeros": bytes(LONG),
        "ones": b"\xff" * LONG,
    }[kind]
    read(compressor, key, Message(data, 8 * LONG), mask)
    tracemalloc.start()
    read(compressor, key, Message(data, 8 * LONG), mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A bit of a message is a byte, or half of a level of 32 bits, and a few copies.
    assert peak < 8 * 4 * LONG


@pytest.mark.parametrize(
    "name, scales, code, bits, named",
    [
        ("qsgd", [1.0], 15, 4, "code 15: expected codes below 15"),
        ("qsgd-24", [1.0], 2**24 - 1, 24, "expected codes below 16777215"),
        ("natural", [], 255, 9, "powers: expected finite numbers"),
        ("natural", [], 511, 9, "powers: expected finite numbers"),
    ],
)
def test_codes_that_no_sender_writes_are_refused(name, scales, code, bits, named, key):
    """They would be written again as they are."""
    wire, mask = COMPRESSORS[name].wire, np.ones(3, bool)
    head = of_floats(np.asarray(scales))
    wire.decode(key, packed([head, to_flags([1, 2, 3], bits)]), mask)
    with pytest.raises(InputError, match=named):
        wire.decode(key, packed([head, to_flags([1, 2, code], bits)]), mask)


def test_a_rice_code_beyond_the_last_level_is_refused(key):
    wire, mask = COMPRESSORS["uniform-rice"].wire, np.ones(60, bool)
    head, m = of_floats(np.asarray([0.0, 1.0])), to_flags([0], HEADER)
    for last in (7, 8):
        codes = np.zeros(60, int)
        codes[17] = last
        message = packed([head, m, rice_flags(codes, 0)])
        if last == 7:
            assert wire.encode(wire.decode(key, message, mask), mask) == message
        else:
            with pytest.raises(InputError, match="does not hold the integers"):
                wire.decode(key, message, mask)
