import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression import drop_activations


SHAPE = (3, 4, 4, 5)
DRAWS = 4000


@pytest.fixture
def x(key):
    return jax.random.normal(key, SHAPE)


@pytest.mark.parametrize("per", ["element", "channel"])
def test_each_value_is_dropped_or_rescaled(key, x, per):
    dropped, mask = drop_activations(key, x, rate=0.25, per=per)
    mask = jnp.broadcast_to(mask, SHAPE)
    np.testing.assert_allclose(dropped, jnp.where(mask, x / 0.75, 0.0), rtol=1e-6)
    assert 0 < mask.mean() < 1


def test_channels_go_whole(key, x):
    _, mask = drop_activations(key, x, rate=0.5, per="channel")
    assert mask.shape == (3, 1, 1, 5)


def test_mean_and_error(key, x):
    def one(key):
        return drop_activations(key, x, rate=0.4)[0]

    draws = jax.vmap(one)(jax.random.split(key, DRAWS))
    spread = draws.std(axis=0) / np.sqrt(DRAWS)
    assert (jnp.abs(draws.mean(axis=0) - x) <= 5 * spread + 1e-6).all()
    errors = ((draws - x[None]) ** 2).sum(axis=(1, 2, 3, 4))
    expected = 0.4 / 0.6 * (x**2).sum()
    assert abs(errors.mean() - expected) <= 5 * errors.std() / np.sqrt(DRAWS)


def test_gradient_has_the_same_mask_and_scale(key, x):
    def total(x):
        dropped, mask = drop_activations(key, x, rate=0.5)
        return dropped.sum(), mask

    gradient, mask = jax.grad(total, has_aux=True)(x)
    np.testing.assert_array_equal(gradient, jnp.where(mask, 2.0, 0.0))


def test_rate_zero_is_the_identity(key, x):
    dropped, mask = drop_activations(key, x, rate=0.0)
    np.testing.assert_array_equal(dropped, x)
    assert mask.all()


def test_without_rescaling_values_keep_their_size(key, x):
    dropped, mask = drop_activations(key, x, rate=0.5, rescale=False)
    np.testing.assert_array_equal(dropped, jnp.where(mask, x, 0.0))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rate_out_of_range(key, x, rate):
    with pytest.raises(ValueError, match="rate="):
        drop_activations(key, x, rate=rate)
