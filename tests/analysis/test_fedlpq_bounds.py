import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.analysis.fedlpq_bounds import (
    convergence_rate,
    expected_update,
    participation,
    update_error,
)
from fedjax_sl.compression import (
    Quantized,
    dequantize,
    draw_layers,
    elias_lengths,
    encode,
    exact_variance,
    quantize,
)
from fedjax_sl.compression.code_length import (
    code_length,
    code_length_bound,
    entropy,
    expected_mean_level,
)
from tests.draws import examples


def test_participation_counts_every_outcome():
    p, clients = 0.3, 4
    anyone = inverse = spread = 0.0
    for flags in itertools.product((0, 1), repeat=clients):
        chance = np.prod([p if sent else 1 - p for sent in flags])
        a = sum(flags)
        if a:
            anyone += chance
            inverse += chance / a
            spread += chance * (clients - a) / (a * (clients - 1))
    np.testing.assert_allclose(participation(p, clients), (anyone, inverse, spread))
    assert participation(1.0, 10) == pytest.approx((1, 0.1, 0))
    assert participation(0.2, 10).inverse == pytest.approx(0.515, abs=1e-3)
    # Half of 3,000 clients, give or take 27.
    assert participation(0.5, 3000).inverse == pytest.approx(1 / 1500, rel=1e-3)


def test_proposition_1_by_monte_carlo(key):
    clients, size, p, levels, draws = 10, 30, 0.3, 8, 20000
    g = jax.random.normal(key, (clients, size)) + 0.3

    def one(key):
        quantize_key, flag_key = jax.random.split(key)
        sent = draw_layers(flag_key, clients, p).astype(jnp.float32)

        def rebuilt(key, row):
            return dequantize(
                quantize(key, row, levels=levels, norm="l2"), levels=levels
            )

        rows = jax.vmap(rebuilt)(jax.random.split(quantize_key, clients), g)
        return sent @ rows / jnp.maximum(sent.sum(), 1)

    updates = np.asarray(jax.lax.map(one, jax.random.split(key, draws), batch_size=500))
    spread = updates.std(axis=0) / np.sqrt(draws)
    assert (
        abs(updates.mean(axis=0) - expected_update(np.asarray(g), p)) < 5 * spread
    ).all()
    errors = ((updates - np.asarray(g).mean(axis=0)) ** 2).sum(axis=1)
    variances = [float(exact_variance(row, levels=levels, norm="l2")) for row in g]
    predicted = update_error(np.asarray(g), p, np.array(variances))
    assert abs(errors.mean() - predicted) < 5 * errors.std() / np.sqrt(draws)


def test_the_rate_slows_by_participation_and_grows_with_the_noise():
    usual = dict(
        rounds=200,
        local_steps=5,
        learning_rate=0.01,
        smoothness=2.0,
        gap=3.0,
        gradient_bound=np.array([1.0, 2.0]),
        variance_bound=np.zeros(2),
        keep_probability=1.0,
        cohort_size=10,
    )
    by_hand = 2 * 3 / (0.01 * 5 * 200) + 2 * 0.01 * 5 * 5 + 4 * 1e-4 * 5 * 4 * 9 / 6
    assert convergence_rate(**usual) == pytest.approx(by_hand)
    pruned = convergence_rate(**{**usual, "keep_probability": 0.2})
    anyone = 1 - 0.8**10
    assert pruned - by_hand == pytest.approx(0.6 * (1 / anyone - 1))
    noisy = convergence_rate(**{**usual, "variance_bound": np.array([0.5, 1.0])})
    assert noisy - by_hand == pytest.approx(2 * 0.01 * 5 * (0.5 * 1 + 1.0 * 4))


layers = st.lists(st.integers(-8, 8) | st.integers(-256, 256), min_size=1, max_size=120)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["gamma", "omega"])
@given(levels=layers, bits=st.integers(8, 16))
@settings(max_examples=examples(80))
def test_no_message_is_longer_than_proposition_2_allows(code, levels, bits):
    message = encode(Quantized(np.float32(1), np.array(levels)), bits=bits, code=code)
    mean = np.abs(levels).mean()
    bound = code_length_bound(len(levels), mean, bits=bits, code=code)
    assert message.num_bits <= bound * (1 + 1e-12)
    assert message.num_bits == code_length(np.array(levels), bits=bits, code=code)
    half = code_length_bound(
        len(levels), mean, bits=bits, code=code, keep_probability=0.5
    )
    assert half == bound / 2


@pytest.mark.slow
@pytest.mark.parametrize("code", ["gamma", "omega"])
def test_the_inequality_under_proposition_2_is_tight(code):
    """No codeword is longer than allowed, and some are as long."""
    k = np.arange(1, 2**12 + 1)
    header = 32 + int(elias_lengths(8, code=code))
    allowed = [code_length_bound(1, int(one) - 1, bits=8, code=code) for one in k]
    slack = np.array(allowed) - header - 1 - np.asarray(elias_lengths(k, code=code))
    assert slack.min() > -1e-9
    assert np.isclose(slack, 0).sum() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("code", ["gamma", "omega"])
@pytest.mark.parametrize("bits", [2, 8, 10])
def test_proposition_2_in_expectation(key, code, bits):
    g = jax.random.normal(key, (896,))
    draws = jax.vmap(lambda k: quantize(k, g, levels=2**bits, norm="l2").level)(
        jax.random.split(key, 200)
    )
    lengths = [code_length(row, bits=bits, code=code) for row in np.asarray(draws)]
    mean_level = expected_mean_level(np.asarray(g), bits=bits)
    assert np.abs(draws).mean() == pytest.approx(mean_level, rel=0.02)
    assert mean_level <= 2**bits / np.sqrt(896)
    error = 5 * np.std(lengths) / np.sqrt(len(lengths))
    bound = code_length_bound(896, mean_level, bits=bits, code=code)
    assert np.mean(lengths) <= bound + error
    assert bound < 2.2 * np.mean(lengths)


@pytest.mark.parametrize("code", ["gamma", "omega", "delta"])
@given(levels=layers)
@settings(max_examples=examples(60))
def test_no_payload_is_shorter_than_the_entropy(code, levels):
    payload = code_length(np.array(levels), bits=10, code=code) - 32
    payload -= int(elias_lengths(10, code=code))
    assert payload / len(levels) >= entropy(np.array(levels)) - 1e-9


def test_entropy_of_what_is_known():
    assert entropy(np.zeros(7, int)) == 0
    assert entropy(np.array([-1, 1, -1, 1])) == 1
    assert entropy(np.arange(8)) == 3
    assert expected_mean_level(np.zeros(4), bits=8) == 0
