"""The published errors of compressors: means, variances and contractions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.normal_levels import normal_levels
from fedjax_sl.compression.quantization_error import exact_variance, variance_bound
from fedjax_sl.compressors import (
    drive,
    eden,
    ef21,
    error_feedback,
    natural,
    power_sgd,
    qsgd,
    rand_top_k,
    random_k,
    send,
    sign,
    terngrad,
    top_k,
    uniform,
)
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.sparse import number_kept
from tests.compressors.family import bits_of


DRAWS = 3000
SIZE = 300


def drawn(compressor, x, mask=None, draws=DRAWS):
    """`[DRAWS, ...]` independent reconstructions of one array."""
    mask = jnp.ones(x.shape, bool) if mask is None else mask

    def one(key):
        return send(compressor, key, x, mask).values

    keys = jax.random.split(jax.random.key(5), draws)
    found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=100))(keys)
    # Sums over draws in float32 would err more than the mean of them.
    return np.asarray(found, np.float64)


def assert_mean(draws, x):
    """The draws' mean is x, as far as so many draws show."""
    x = np.asarray(x, np.float64)
    spread = draws.std(axis=0) / np.sqrt(DRAWS)
    # What happens once in a thousand draws may not have happened.
    rare = np.ptp(x) / DRAWS
    assert (np.abs(draws.mean(axis=0) - x) <= 5 * (spread + rare)).all()


def squared(x):
    return float((x**2).sum())


def on_grid(x):
    """E|C(x) - x|^2 on 2^3 - 1 intervals between the extreme entries."""
    step = (x.max() - x.min()) / 7
    share = (x - x.min()) / step % 1
    return float((step**2 * share * (1 - share)).sum())


UNBIASED = {
    "qsgd": (qsgd(bits=3), lambda x: exact_variance(x, levels=3, norm="max")),
    "qsgd-l2": (
        qsgd(bits=5, norm="l2", coder="omega"),
        lambda x: exact_variance(x, levels=32, norm="l2"),
    ),
    "uniform": (uniform(bits=3), on_grid),
    "terngrad": (
        terngrad(),
        lambda x: float(jnp.abs(x).max() * jnp.abs(x).sum() - (x**2).sum()),
    ),
    "random_k": (random_k(keep=0.1), lambda x: 9 * squared(x)),
}
"""Compressors without bias, and their exact expected squared error."""


@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_and_the_variance_are_exact(name):
    compressor, variance = UNBIASED[name]
    x = jax.random.normal(jax.random.key(1), (SIZE,))
    draws = drawn(compressor, x)
    assert_mean(draws, x)
    squares = ((draws - np.asarray(x)) ** 2).sum(axis=1)
    error = 5 * squares.std() / np.sqrt(DRAWS) + 1e-4 * squares.mean()
    assert abs(squares.mean() - float(variance(x))) <= error


def test_natural_compression_is_unbiased_within_an_eighth():
    # Mantissas at 1/3: where p (1 - p) (1 + p)^-2 is largest, 1/8.
    x = jnp.full((SIZE,), 4 / 3) * jnp.where(jnp.arange(SIZE) % 2, 1.0, -8.0)
    draws = drawn(natural(), x)
    assert_mean(draws, x)
    share = ((draws - np.asarray(x)) ** 2).sum(axis=1).mean() / squared(x)
    assert share == pytest.approx(1 / 8, rel=0.02)


@pytest.mark.parametrize(("bits", "published"), [(1, 0.571), (2, 0.133), (3, 0.0358)])
def test_eden_errs_on_normal_vectors_as_published(bits, published):
    # Vargaftik et al. (2022): D / (1 - D), D = 0.3634, 0.1175, 0.03454 (Max 1960).
    x = jax.random.normal(jax.random.key(1), (4096,))
    draws = drawn(eden(bits=bits), x, draws=200)
    share = ((draws - np.asarray(x)) ** 2).sum(axis=1).mean() / squared(x)
    assert share == pytest.approx(published, rel=0.02)


def test_eden_is_unbiased_on_vectors_that_are_not_normal():
    x = jnp.linspace(0.1, 1.0, 256)
    draws = drawn(eden(bits=1), x)
    assert_mean(draws, x)


@pytest.mark.slow
def test_drive_is_eden_with_one_bit(key):
    x, mask = jax.random.normal(key, (50,)), jnp.ones(50, bool)
    found = (send(each, key, x, mask).values for each in (drive(), eden(bits=1)))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_levels_are_means_of_their_intervals(bits):
    # Two levels are +-sqrt(2 / pi); four are those of Max (1960), table I.
    known = {1: [0.7979], 2: [0.4528, 1.510]}
    levels = normal_levels(bits)
    np.testing.assert_array_equal(levels, -levels[::-1])
    if bits in known:
        np.testing.assert_allclose(levels[len(levels) // 2 :], known[bits], rtol=1e-3)
    normal = np.random.default_rng(0).normal(size=10**6)
    nearest = np.abs(normal[:, None] - levels).argmin(axis=1)
    means = [normal[nearest == level].mean() for level in range(len(levels))]
    np.testing.assert_allclose(means, levels, atol=0.02)


@pytest.mark.parametrize("keep", [0.01, 0.1, 1.0])
def test_top_k_is_the_best_of_its_size(keep, key):
    x, number = jax.random.normal(key, (SIZE,)), max(int(keep * SIZE), 1)
    received = send(top_k(keep=keep), key, x, jnp.ones(SIZE, bool))
    assert received.sent.sum() == number
    best = jnp.sort(jnp.abs(x))[: SIZE - number]
    left = squared(received.values - x)
    assert left == pytest.approx(squared(best), abs=1e-4)
    assert left <= (1 - number / SIZE) * squared(x) + 1e-4


def test_top_k_sends_as_many_among_ties(key):
    received = send(top_k(keep=0.1), key, jnp.ones(SIZE), jnp.ones(SIZE, bool))
    assert received.sent.sum() == SIZE // 10


def test_signs_have_the_error_of_their_formula(key):
    x = jax.random.normal(key, (SIZE,))
    values = send(sign(), key, x, jnp.ones(SIZE, bool)).values
    share = 1 - float(jnp.abs(x).sum()) ** 2 / (SIZE * squared(x))
    assert squared(values - x) / squared(x) == pytest.approx(share, rel=1e-4)


def test_power_sgd_is_exact_for_its_rank_and_a_projection_otherwise(key):
    one, two = jax.random.split(key)
    x = jax.random.normal(one, (30, 3)) @ jax.random.normal(two, (3, 40))
    whole = jnp.ones(x.shape, bool)
    exact = send(power_sgd(rank=3), key, x, whole).values
    np.testing.assert_allclose(exact, x, atol=1e-4)
    coarse = send(power_sgd(rank=1), key, x, whole).values
    left = squared(coarse - x)
    assert 0 < left < squared(x)
    assert left + squared(coarse) == pytest.approx(squared(x), rel=1e-4)


def test_rand_top_k_draws_others_as_often_as_told():
    x = jnp.arange(SIZE, dtype=jnp.float32) + 1
    number, explore = SIZE // 10, 0.3
    draws = drawn(rand_top_k(keep=0.1, explore=explore), x) != 0
    assert (draws.sum(axis=1) == number).all()
    others = draws[:, : SIZE - number].sum(axis=1).mean() / number
    # Without replacement the top entries get rarer as they are drawn.
    assert explore < others < 2 * explore
    top = drawn(rand_top_k(keep=0.1, explore=0.0), x, draws=3) != 0
    assert (top == (np.arange(SIZE) >= SIZE - number)).all()


def test_qsgd_is_within_its_bound_at_every_length():
    for size in (1, 10, 1000):
        x = jax.random.normal(jax.random.key(size), (size,))
        draws = drawn(qsgd(bits=4), x, draws=300)
        error = ((draws - np.asarray(x)) ** 2).sum(axis=1).mean()
        assert error <= float(variance_bound(size, levels=7, norm="max")) * squared(x)


def messages(compressor, x, rounds):
    """What arrives of the same array, sent many times by one sender."""
    mask = jnp.ones(x.shape, bool)

    def step(state, key):
        received = send(compressor, key, x, mask, state=state)
        return received.state, received.values

    keys = jax.random.split(jax.random.key(0), rounds)
    return jax.lax.scan(step, compressor.init(x), keys)


def test_error_feedback_sends_everything_in_the_end(key):
    x, rounds = jax.random.normal(key, (SIZE,)), 200
    state, values = messages(error_feedback(top_k(keep=0.05)), x, rounds)
    # What was sent, and the residual, are all that was to be sent.
    np.testing.assert_allclose(values.sum(axis=0) + state.kept, rounds * x, rtol=1e-3)
    assert np.abs(values.mean(axis=0) - x).max() < 0.2
    _, plain = messages(top_k(keep=0.05), x, rounds)
    assert np.abs(plain.mean(axis=0) - x).max() > 0.9


def test_ef21_arrives_at_what_stays_the_same(key):
    x = jax.random.normal(key, (SIZE,))
    state, values = messages(ef21(top_k(keep=0.05)), x, 40)
    np.testing.assert_allclose(values[-1], x, atol=1e-5)
    np.testing.assert_allclose(state.kept, x, atol=1e-5)


def test_the_residual_of_what_may_not_be_sent_is_kept(key):
    x, mask = jax.random.normal(key, (SIZE,)), jnp.arange(SIZE) < 100
    compressor = error_feedback(top_k(keep=0.1))
    state = compressor.init(x)._replace(kept=jnp.ones(SIZE))
    received = send(compressor, key, x, mask, state=state)
    np.testing.assert_array_equal(received.state.kept[100:], 1.0)
    assert not received.values[100:].any()


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.29, 0.5, 0.7, 0.9, 1.0])
def test_the_number_kept_is_exact_wherever_it_is_computed(keep):
    sizes = [1, 2, 7, 100, 284_031, 720_901, 1_123_477, 8_000_000, 20_000_000]
    exact = [max(round(keep * 100) * size // 100, 1) for size in sizes]
    number = partial(number_kept, keep=keep)
    assert [int(number(size)) for size in sizes] == exact
    assert [int(number(size, numpy=np)) for size in sizes] == exact
    assert jax.jit(number)(jnp.asarray(sizes)).tolist() == exact
    traced = jax.jit(number_kept)(jnp.asarray(sizes), jnp.float32(keep))
    assert traced.tolist() == exact


def test_what_mixes_entries_is_no_compressor_of_single_values():
    with pytest.raises(ValueError, match="codes entries one by one"):
        top_k(values=eden())
    with pytest.raises(ValueError, match="values: expected a compressor that codes"):
        CompressorConfig(kind="top_k", values="power_sgd")


@pytest.mark.slow
@pytest.mark.parametrize("compressor", [eden(bits=8), power_sgd(rank=2)])
def test_padding_at_the_end_of_a_batch_costs_next_to_nothing(compressor, key):
    x = jax.random.normal(key, (5, 32, 32, 8))
    link = [
        send(compressor, key, x, jnp.arange(5)[:, None, None, None] + 0 * x < real).bits
        for real in (5, 1, 0)
    ]
    whole, one, none = map(bits_of, link)
    assert none == 0 and one < 0.26 * whole


@pytest.mark.slow
def test_huge_spans_are_cut_into_levels_and_larger_entries_are_no_numbers(key):
    x, everything = jnp.asarray([-4e37, 1e37, 0.0, 4e37]), jnp.ones(4, bool)
    values = send(uniform(bits=8, rounding="nearest"), key, x, everything).values
    np.testing.assert_allclose(values, x, atol=2e35)
    for compressor in (qsgd(), uniform(), terngrad(), sign(), eden(), power_sgd()):
        found = send(compressor, key, x.at[0].set(-9e37), everything).values
        assert not jnp.isfinite(found).all()
