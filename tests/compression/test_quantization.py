from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedjax_sl.compression import (
    dequantize,
    exact_variance,
    levels_from_bits,
    quantize,
    quantize_tree,
    reconstruct_range_tree,
    reconstruct_tree,
    variance_bound,
)
from tests.draws import examples


NORMS = ["max", "l2"]
DRAWS = 4000
tensors = npst.arrays(
    np.float32,
    npst.array_shapes(max_dims=3, max_side=6),
    elements=st.floats(-100, 100, width=32),
)


def many(key, x, levels, norm):
    """`[DRAWS, ...]` independent reconstructions."""

    def one(key):
        return dequantize(quantize(key, x, levels=levels, norm=norm), levels=levels)

    return jax.vmap(one)(jax.random.split(key, DRAWS))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("levels", [1, 7, 127])
def test_mean_of_draws_is_the_tensor(key, norm, levels):
    x = jax.random.normal(key, (40,))
    draws = many(jax.random.fold_in(key, 1), x, levels, norm)
    error = jnp.abs(draws.mean(axis=0) - x)
    spread = draws.std(axis=0) / np.sqrt(DRAWS)
    assert (error <= 5 * spread + 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("levels", [3, 15, 127])
def test_variance_is_the_exact_one_and_within_its_bound(key, norm, levels):
    x = jax.random.normal(key, (200,))
    draws = many(jax.random.fold_in(key, 1), x, levels, norm)
    squares = ((draws - x[None]) ** 2).sum(axis=1)
    exact = exact_variance(x, levels=levels, norm=norm)
    assert abs(squares.mean() - exact) <= 5 * squares.std() / np.sqrt(DRAWS)
    assert exact > 0
    assert exact <= variance_bound(200, levels=levels, norm=norm) * (x**2).sum()


def test_variance_falls_with_the_square_of_the_levels(key):
    x = jax.random.normal(key, (5000,))
    steps = [exact_variance(x, levels=s, norm="max") for s in (31, 63, 127)]
    ratios = np.array(steps[:-1]) / np.array(steps[1:])
    np.testing.assert_allclose(ratios, [(63 / 31) ** 2, (127 / 63) ** 2], rtol=0.1)


compiled = jax.jit(quantize, static_argnames="norm")  # once for each shape


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@given(x=tensors, levels=st.integers(1, 255))
@settings(max_examples=examples(40))
def test_codes_fit_and_keep_signs(norm, x, levels):
    quantized = compiled(jax.random.key(3), jnp.array(x), levels=levels, norm=norm)
    level = np.asarray(quantized.level)
    assert level.dtype == np.int32
    assert np.abs(level).max() <= levels
    assert (level[x == 0] == 0).all()
    assert (level * x >= 0).all()


def test_values_on_the_grid_come_back(key):
    x = jnp.arange(-7, 8) / 7 * 3.5
    for draw in range(20):
        draw_key = jax.random.fold_in(key, draw)
        quantized = quantize(draw_key, x, levels=7, norm="max")
        np.testing.assert_allclose(dequantize(quantized, levels=7), x, rtol=3e-7)


def test_a_zero_tensor_stays_zero_without_dividing_by_it(key):
    with jax.debug_nans(True):
        quantized = quantize(key, jnp.zeros(5), levels=7, norm="l2")
        assert (dequantize(quantized, levels=7) == 0).all()


def test_scaling_by_a_power_of_two_commutes(key):
    x = jax.random.normal(key, (30,))
    small = quantize(key, x, levels=15, norm="max")
    large = quantize(key, 4 * x, levels=15, norm="max")
    np.testing.assert_array_equal(small.level, large.level)
    assert large.norm == 4 * small.norm


def test_levels():
    assert levels_from_bits(8, signed=True) == 127
    assert levels_from_bits(8, signed=False) == 256
    assert jax.jit(lambda b: levels_from_bits(b, signed=True))(8) == 127
    for bits, signed in ((1, True), (32, True), (0, False)):
        with pytest.raises(ValueError, match=f"bits={bits}"):
            levels_from_bits(bits, signed=signed)


def test_each_tensor_has_its_own_norm_and_draws(key):
    tree = {"a": jnp.full(300, 0.5), "b": jnp.full(300, 50.0).at[0].set(100.0)}
    tree["a"] = tree["a"].at[0].set(1.0)
    quantized = quantize_tree(key, tree, levels=1, norm="max")
    assert quantized["a"].norm == 1
    assert quantized["b"].norm == 100
    assert (quantized["a"].level != quantized["b"].level).any()


def test_bits_are_a_value_of_one_program(key):
    tree = {"a": jax.random.normal(key, (7,)), "b": jnp.ones((2, 3)) / 3}
    traces = []

    @jax.jit
    def compress(bits):
        traces.append(bits)
        levels = levels_from_bits(jnp.minimum(bits, 30), signed=True)
        return reconstruct_tree(key, tree, levels=levels, exact=bits >= 32)

    coarse, fine, same = compress(2), compress(8), compress(32)
    assert len(traces) == 1
    np.testing.assert_array_equal(same["a"], tree["a"])
    errors = [float(jnp.abs(x["a"] - tree["a"]).max()) for x in (coarse, fine)]
    assert errors[0] > 10 * errors[1] > 0


def test_published_laws_of_the_2_norm_with_2_to_the_b_levels(key):
    bits, size = 4, 60
    levels = levels_from_bits(bits, signed=False)
    one_hot = jnp.zeros(size).at[7].set(-2.5)
    quantized = quantize(key, one_hot, levels=levels, norm="l2")
    np.testing.assert_array_equal(
        quantized.level, np.zeros(size, int) - 16 * np.eye(size, dtype=int)[7]
    )
    np.testing.assert_array_equal(dequantize(quantized, levels=levels), one_hot)

    x = jax.random.normal(key, (size,))
    index = np.abs(many(key, x, levels, "l2")) * levels / np.linalg.norm(x)
    expected = levels * np.abs(x) / np.linalg.norm(x)
    spread = index.std(axis=0) / np.sqrt(DRAWS)
    assert (np.abs(index.mean(axis=0) - expected) <= 5 * spread + 1e-4).all()
    squares = (index**2).sum(axis=1)
    assert squares.mean() <= 4**bits + min(size / 4, 2**bits * np.sqrt(size))


@pytest.mark.parametrize("bits", [2, 5])
def test_the_range_form_is_unbiased_and_within_its_bound(key, bits):
    x, levels = 3 + jax.random.normal(key, (50,)), 2**bits - 1
    draws = jax.vmap(lambda k: reconstruct_range_tree(k, [x], levels=levels)[0])(
        jax.random.split(key, DRAWS)
    )
    low, high = x.min(), x.max()
    place = (draws - low) / (high - low) * levels
    np.testing.assert_allclose(place, jnp.round(place), atol=1e-4)
    spread = draws.std(axis=0) / np.sqrt(DRAWS)
    assert (jnp.abs(draws.mean(axis=0) - x) <= 5 * spread + 1e-5).all()
    error = ((draws - x[None]) ** 2).sum(axis=1).mean()
    assert 0 < error <= 50 * (high - low) ** 2 / (4 * levels**2)


def test_the_range_form_of_a_constant_and_at_full_precision(key):
    tree = {"a": jnp.full(4, -2.5), "b": jax.random.normal(key, (9,))}
    coarse = reconstruct_range_tree(key, tree, levels=3)
    np.testing.assert_array_equal(coarse["a"], tree["a"])
    same = reconstruct_range_tree(key, tree, levels=3, exact=jnp.bool_(True))
    np.testing.assert_array_equal(same["b"], tree["b"])


@pytest.mark.parametrize("levels", [0, -1, 2.5, "4"])
def test_levels_that_are_none_are_refused(key, levels):
    x = jnp.array([1.0, -2.0])
    for function in (
        partial(quantize, key, x, norm="max"),
        partial(quantize_tree, key, {"a": x}, norm="l2"),
        partial(reconstruct_range_tree, key, {"a": x}),
        partial(exact_variance, x, norm="max"),
        partial(variance_bound, 2, norm="max"),
    ):
        with pytest.raises(ValueError, match=f"levels={levels!r}: expected"):
            function(levels=levels)


@pytest.mark.parametrize("bits", [7.5, "8", None])
def test_bits_that_are_no_integer_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits!r}: expected an integer"):
        levels_from_bits(bits, signed=True)
    assert levels_from_bits(np.int64(8), signed=True) == 127
