import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.layers.group_norm import group_norm, num_groups
from fedjax_sl.layers.pool import max_pool, pooled, unpooled
from tests.worlds import assert_close


def flax_norm(x, offset, scale, bias, groups, pool, relu):
    norm = nn.GroupNorm(num_groups=groups, epsilon=1e-5)
    y = norm.apply({"params": {"scale": scale, "bias": bias}}, x + offset)
    y = nn.max_pool(y, (2, 2), strides=(2, 2)) if pool else y
    return nn.relu(y) if relu else y


@pytest.mark.slow
@pytest.mark.parametrize("pool, relu", [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize("channels, groups", [(8, 1), (32, 2), (48, 3), (16, 4)])
def test_group_norm_is_that_of_flax_with_its_autodiff(
    key, channels, groups, pool, relu
):
    keys = jax.random.split(key, 5)
    x = 2 + jax.random.normal(keys[0], (3, 4, 5, channels))
    params = [jax.random.normal(k, (channels,)) for k in keys[1:4]]
    with jax.numpy_rank_promotion("allow"):
        expected, back = jax.vjp(
            lambda *args: flax_norm(*args, groups, pool, relu), x, *params
        )
        dy = jax.random.normal(keys[4], expected.shape)
        expected_gradients = back(dy)
    actual, back = jax.vjp(
        lambda *args: group_norm(*args, groups, pool, relu), x, *params
    )
    assert_close(actual, expected, tolerance=1e-4)
    assert_close(back(dy), expected_gradients, tolerance=1e-4)


def test_number_of_groups_divides_the_channels():
    assert [num_groups(c) for c in (1, 8, 16, 38, 77, 512)] == [1, 1, 1, 2, 1, 32]


def test_pruned_channels_stay_zero_behind_the_norm(key):
    x = jax.random.normal(key, (2, 4, 4, 6)).at[..., 2].set(0.0)
    kept = jnp.ones(6).at[2].set(0.0)
    assert (group_norm(x, 0 * kept, kept, kept, 1, True, True)[..., 2] == 0).all()


def test_max_pool_agrees_with_flax_and_drops_odd_edges(key):
    x = jax.random.normal(key, (2, 6, 7, 3))
    expected = nn.max_pool(x, (2, 2), strides=(2, 2))
    np.testing.assert_array_equal(max_pool(x), expected)
    gradient = jax.grad(
        lambda x: (max_pool(x) * jnp.arange(3.0).reshape(1, 1, 1, 3)).sum()
    )(x)
    assert gradient.sum() == 2 * 9 * (0 + 1 + 2)
    assert ((gradient != 0).sum(axis=(0, 1, 2)) == jnp.array([0, 18, 18])).all()


def test_the_gradient_of_a_window_goes_to_one_entry(key):
    tied = jnp.zeros((1, 2, 2, 1))
    gradient = jax.grad(lambda x: max_pool(x).sum())(tied)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("optimized", [False, True])
def test_pooled_gradients_stay_finite_when_compiled(key, optimized):
    x = jax.random.normal(key, (3, 8, 8, 16))
    one = jnp.ones(16)
    gradient = jax.jit(
        jax.grad(lambda x: group_norm(x, one, one, one, 1, True, True).sum()),
        compiler_options={"xla_backend_optimization_level": 3 * optimized},
    )(x)
    assert np.isfinite(gradient).all()


def test_equal_entries_share_their_window_s_gradient():
    x = jnp.ones((1, 4, 4, 1)).at[0, 0, 0, 0].set(2.0)
    y = pooled(x, jnp.ones((1, 1, 1, 1), bool))
    gradient = unpooled(jnp.full(y.shape, 4.0), x, y)[0, ..., 0]
    np.testing.assert_array_equal(
        gradient, [[4, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    )


@pytest.mark.slow
def test_max_pool_can_be_differentiated_twice(key):
    x = jax.random.normal(key, (1, 4, 4, 2))
    curvature = jax.grad(
        lambda x: (jax.grad(lambda x: (max_pool(x) ** 3).sum())(x)).sum()
    )
    expected = jnp.repeat(jnp.repeat(6 * max_pool(x), 2, axis=1), 2, axis=2)
    largest = x == jnp.repeat(jnp.repeat(max_pool(x), 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(curvature(x), jnp.where(largest, expected, 0), rtol=1e-5)
