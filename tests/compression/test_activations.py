"""Bytes of what crosses the cut: they decode to what was sent, and are as counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.compression.activations import (
    decode_entries,
    encode_entries,
    num_bytes,
)
from fedjax_sl.compression.dropout import drop_activations
from fedjax_sl.compression.quantization import levels_from_bits, quantize
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.state import DROPOUT
from fedjax_sl.fedsl.thin_cut import channels_at_cut
from fedjax_sl.models.prunable import prunable
from fedjax_sl.traffic import bits as bits_of
from tests.worlds import played, tiny_model


@given(st.integers(1, 31), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_what_is_decoded_is_what_was_sent(bits, size, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**bits, size)
    mask = rng.random(size) < 0.6
    message = encode_entries(values, mask, bits=bits)
    assert len(message) == num_bytes(mask.sum(), bits)
    np.testing.assert_array_equal(
        decode_entries(message, mask, bits=bits), np.where(mask, values, 0)
    )


def test_floats_are_sent_bit_for_bit(key):
    x = jax.random.normal(key, (3, 4, 4, 6))
    sent, mask = drop_activations(key, x, rate=0.4)
    message = encode_entries(sent, mask, bits=32)
    np.testing.assert_array_equal(decode_entries(message, mask, bits=32), sent)
    assert len(message) == 4 * int(mask.sum())


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"prune_ratio": 0.5}, {"dropout_rate": 0.4}, {}])
def test_the_bits_of_a_round_are_those_of_its_messages(key, change):
    """The counted bits of a client's activations, against an encoder's bytes."""
    config = dataclasses.replace(
        FedSLConfig(cohort_size=4, interval=1, prune_ratio=0.0, dropout_rate=0.0),
        **change,
        prune_shape="constant",
        dropout_mask="bitmap",
    )
    state, (metrics,) = played(key, config, rounds=1)
    link = metrics.links.activations_up
    shape = (5, *tiny_model().cut_shape())
    # The server redraws what was dropped from the key of the client and the round.
    keys = client_keys(jax.random.fold_in(key, 0), state.client_id, DROPOUT)
    for client in range(4):
        mask = jax.tree.map(lambda x, k=client: x[k], state.mask)
        rate = config.dropout_rate
        sent, drawn = drop_activations(keys[client], jnp.ones(shape), rate=rate)
        kept = channels_at_cut(config, prunable(tiny_model()), mask, shape[-1])
        sends = np.asarray(drawn) & np.asarray(kept)
        message = encode_entries(sent, sends, bits=32)
        assert 8 * len(message) == bits_of(link)[client] - link.side[client]
        assert len(message) == 4 * link.entries[client]


def test_gradients_of_few_bits_are_as_long_as_counted(key):
    """Signed levels are sent from -s on, so that b bits hold all 2 s + 1 of them."""
    for bits in (2, 5, 8):
        levels = levels_from_bits(bits, signed=True)
        x = jax.random.normal(key, (7, 11))
        coded = quantize(key, x, levels=levels, norm="max")
        mask = np.asarray(x) > -1
        message = encode_entries(np.asarray(coded.level) + levels, mask, bits=bits)
        assert len(message) == num_bytes(mask.sum(), bits)
        back = decode_entries(message, mask, bits=bits) - levels
        np.testing.assert_array_equal(back[mask], np.asarray(coded.level)[mask])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="entries from 0 to 8: expected 0 to 7"):
        encode_entries(np.arange(9), np.ones(9, bool), bits=3)
    with pytest.raises(ValueError, match="message of 3 bytes: expected 4"):
        decode_entries(b"abc", np.ones(9, bool), bits=3)
    message = encode_entries(np.arange(7), np.ones(7, bool), bits=3)
    with pytest.raises(ValueError, match="bits past the end of the message are not 0"):
        decode_entries(message[:-1] + b"\x01", np.ones(7, bool), bits=3)
