"""Roundings of a quantiser, and what the receiver rebuilds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression import dequantize, quantize, reconstruct_range_tree
from fedjax_sl.compression.rounding import rebuilt, rounded, worst_square


ROUNDINGS = ["stochastic", "nearest", "floor", "floor_middle"]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_level_stays_itself(rounding):
    levels = jnp.arange(8.0)
    for draw in (0.0, 0.5, 0.999):
        np.testing.assert_array_equal(rounded(draw, levels, rounding), levels)


@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("levels", [7, 127, 2**15 - 1, 2**22])
def test_values_on_the_grid_stay_there_in_float32(rounding, levels):
    """Dividing by the norm, a third of them falls just below its level."""
    level = np.arange(-min(levels, 2000), min(levels, 2000) + 1)
    level[0], level[-1] = -levels, levels
    for norm in np.float32([1.7, 0.3, 1e-5, 12345.678]):
        x = jnp.asarray(norm * (level / np.float32(levels)).astype(np.float32))
        how = {"levels": levels, "rounding": rounding}
        found = quantize(jax.random.key(0), x, norm="max", **how)
        np.testing.assert_array_equal(found.level, level)


@pytest.mark.parametrize("levels", [3, 255])
def test_ends_of_a_range_are_levels_when_rounding_down(key, levels):
    tensors = jax.random.normal(key, (300, 5))
    found = jax.vmap(
        lambda x: reconstruct_range_tree(key, [x], levels=levels, rounding="floor")[0]
    )(tensors)
    np.testing.assert_allclose(found.max(axis=1), tensors.max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.min(axis=1), tensors.min(axis=1))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("norm", ["max", "l2"])
def test_no_entry_errs_more_than_its_worst(key, rounding, norm):
    x, levels = jax.random.normal(key, (500,)), 15
    keys = jax.random.split(key, 200)

    def error(key):
        coded = quantize(key, x, levels=levels, norm=norm, rounding=rounding)
        back = dequantize(coded, levels=levels, rounding=rounding)
        return (back - x) / (coded.norm / levels)

    mean_square = (jax.vmap(error)(keys) ** 2).mean(axis=0).max()
    # Of the stochastic one the mean of 200 draws strays by less than a third.
    slack = 1.3 if rounding == "stochastic" else 1 + 1e-4
    assert mean_square <= slack * worst_square(rounding)


def test_only_stochastic_rounding_depends_on_its_draw(key):
    x = jax.random.normal(key, (100,))
    for rounding in ROUNDINGS:
        levels = [
            quantize(k, x, levels=7, norm="max", rounding=rounding).level
            for k in jax.random.split(key, 2)
        ]
        same = bool((levels[0] == levels[1]).all())
        assert same == (rounding != "stochastic"), rounding


def test_floor_sends_nothing_below_the_first_level(key):
    """With s = 2^b and the 2-norm of M even entries, r = s / sqrt(M) lies below 1."""
    x = jnp.where(jax.random.bernoulli(key, shape=(10_000,)), 1.0, -1.0)
    levels = {
        rounding: quantize(key, x, levels=64, norm="l2", rounding=rounding).level
        for rounding in ("stochastic", "nearest", "floor")
    }
    assert not levels["floor"].any()
    np.testing.assert_array_equal(levels["nearest"], jnp.sign(x))
    share = float((levels["stochastic"] != 0).mean())
    assert share == pytest.approx(0.64, abs=0.02)


def test_floor_is_at_most_the_magnitude_and_its_middle_nearer(key):
    x = jax.random.uniform(key, (2000,), minval=-1.0)
    coded = quantize(key, x, levels=9, norm="max", rounding="floor")
    low = dequantize(coded, levels=9, rounding="floor")
    middle = dequantize(coded, levels=9, rounding="floor_middle")
    assert (jnp.abs(low) <= jnp.abs(x) * (1 + 1e-6)).all()
    assert ((low == 0) == (middle == 0)).all()
    # Of even entries an interval's middle halves the largest error.
    assert jnp.abs(middle - x)[middle != 0].max() <= 0.5 / 9 * 1.001
    assert jnp.abs(low - x).max() > 0.9 / 9


def test_the_middle_does_not_pass_the_norm():
    ends = jnp.array([-5, 0, 4, 5])
    np.testing.assert_array_equal(
        rebuilt(ends, 5, "floor_middle"), jnp.array([-5.0, 0.0, 4.5, 5.0])
    )


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_range_keeps_its_ends(key, rounding):
    x = jnp.concatenate([jax.random.uniform(key, (50,)), jnp.array([-1.0, 2.0])])
    back = reconstruct_range_tree(key, [x], levels=7, rounding=rounding)[0]
    np.testing.assert_allclose(back[-2:], x[-2:], rtol=1e-6)
    assert jnp.abs(back - x).max() <= 3.0 / 7 * (1 + 1e-5)


def test_an_unknown_rounding_is_refused(key):
    with pytest.raises(ValueError, match="rounding='up': expected"):
        quantize(key, jnp.ones(3), levels=3, norm="max", rounding="up")  # type: ignore[arg-type]
