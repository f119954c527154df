from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.layers.conv import LOWERINGS, choose, conv
from tests.worlds import assert_close


SHAPES = [
    ((2, 8, 8, 3), (3, 3, 3, 5)),
    ((3, 5, 7, 4), (3, 3, 4, 2)),
    ((2, 2, 2, 16), (3, 3, 16, 8)),
    ((1, 6, 6, 2), (5, 5, 2, 3)),
    ((14, 32, 32, 3), (5, 5, 3, 6)),  # patches in parts
    ((4, 16, 16, 64), (3, 3, 64, 64)),  # its gradient is summed over parts
    ((3, 5, 5, 9), (3, 1, 9, 4)),
    ((2, 4, 4, 3), (1, 1, 3, 3)),
]


def value_and_gradients(name, x, kernel, dy):
    y, back = jax.vjp(partial(conv, lowering=name), x, kernel)
    return y, *back(dy)


WINOGRAD_SHAPES = [
    ((2, 8, 8, 3), (3, 3, 3, 5)),
    ((3, 5, 7, 4), (3, 3, 4, 2)),  # odd sides
    ((2, 2, 2, 16), (3, 3, 16, 8)),  # one tile between zeros
    ((2, 2, 6, 4), (3, 3, 4, 3)),
    ((2, 1, 3, 4), (3, 3, 4, 3)),
    ((4, 16, 16, 64), (3, 3, 64, 64)),  # in parts
]


@pytest.mark.parametrize(
    "name, x_shape, kernel_shape",
    [(name, *shapes) for name in ("canonical", "matmul") for shapes in SHAPES]
    + [("winograd", *shapes) for shapes in WINOGRAD_SHAPES],
)
def test_lowerings_agree_with_autodiff_of_lax_conv(key, name, x_shape, kernel_shape):
    keys = jax.random.split(key, 3)
    x, kernel = (
        jax.random.normal(k, s)
        for k, s in zip(keys[:2], (x_shape, kernel_shape), strict=True)
    )
    dy = jax.random.normal(keys[2], (*x_shape[:-1], kernel_shape[-1]))
    assert_close(
        value_and_gradients(name, x, kernel, dy),
        value_and_gradients("xla", x, kernel, dy),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("name", ["canonical", "matmul", "winograd"])
def test_second_gradient(key, name):
    x = jax.random.normal(key, (2, 4, 4, 3))
    kernel = jax.random.normal(key, (3, 3, 3, 2))

    def twice(lowering):
        def loss(k):
            return (conv(x, k, lowering=lowering) ** 3).sum()

        return jax.grad(lambda k: (jax.grad(loss)(k) ** 2).sum())(kernel)

    scale = jnp.abs(twice("xla")).max()
    np.testing.assert_allclose(twice(name) / scale, twice("xla") / scale, atol=1e-5)


@pytest.mark.parametrize("name", LOWERINGS)
def test_a_vmap_over_kernels_is_the_loop(key, name):
    x = jax.random.normal(key, (3, 2, 6, 6, 2))
    kernels = jax.random.normal(key, (3, 3, 3, 2, 4))
    dy = jax.random.normal(key, (3, 2, 6, 6, 4))
    both = partial(value_and_gradients, name)
    assert_close(
        jax.vmap(both)(x, kernels, dy),
        jax.lax.map(lambda a: both(*a), (x, kernels, dy)),
    )


def test_winograd_is_for_kernels_of_three_taps():
    with pytest.raises(ValueError, match="winograd expects"):
        conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((5, 5, 1, 1)), lowering="winograd")


def test_winograd_is_as_exact_as_lax_conv(key):
    """Against float64 sums: its basis holds no large numbers."""
    x = jax.random.normal(key, (2, 8, 8, 64))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 64, 64))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    exact = np.einsum("bhwcij,ijcd->bhwd", windows, np.asarray(kernel, np.float64))
    tiled, plain = (
        np.abs(conv(x, kernel, lowering=name) - exact).max()
        for name in ("winograd", "xla")
    )
    assert tiled < 3 * plain


def test_choice_depends_on_backend_and_shape():
    assert choose((16, 8, 8, 16), (3, 3, 16, 16), "cpu") == "canonical"
    assert choose((16, 8, 8, 64), (3, 3, 64, 64), "cpu") == "winograd"
    assert choose((16, 2, 2, 16), (3, 3, 16, 16), "cpu") == "winograd"
    assert choose((16, 8, 8, 64), (5, 5, 64, 64), "cpu") == "canonical"
    assert choose((16, 2, 2, 64), (5, 5, 64, 64), "cpu") == "matmul"
    assert choose((16, 32, 32, 3), (3, 3, 3, 64), "cpu") == "matmul"
    assert choose((16, 8, 8, 64), (3, 3, 64, 64), "gpu") == "xla"


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_low_precision_is_in_the_products_only(key, lowering):
    """bf16 rounds each factor to 8 bits; what comes out, gradients too, is float32."""
    x = jax.random.normal(key, (2, 8, 8, 16))
    kernel = 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 16, 16))

    def both(precision):
        y, back = jax.vjp(
            partial(conv, lowering=lowering, precision=precision), x, kernel
        )
        return y, *back(jnp.cos(y))

    exact, rounded = both("float32"), both("bf16")
    for a, b in zip(exact, rounded, strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert 1e-4 < jnp.linalg.norm(a - b) / jnp.linalg.norm(a) < 2e-2
    np.testing.assert_allclose(both("tf32")[0], exact[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("lowering", ["canonical", "matmul", "winograd"])
def test_sums_of_low_precision_are_float32(lowering):
    """256 + 1 + ... + 1: bf16 has no odd number there, nor 1036."""
    channels = 66
    x = jnp.ones((1, 4, 4, channels)).at[..., 0].set(256.0)
    kernel = jnp.zeros((3, 3, channels, 32)).at[1, 1].set(1.0)
    y = conv(x, kernel, lowering=lowering, precision="bf16")
    np.testing.assert_array_equal(y, 256.0 + channels - 1)
    dy = jnp.ones_like(y).at[:, :2, :2].set(256.0)
    _, back = jax.vjp(partial(conv, x, lowering=lowering, precision="bf16"), kernel)
    np.testing.assert_array_equal(back(dy)[0][1, 1, 1], 4 * 256.0 + 12)


@pytest.mark.parametrize("asked", [{"lowering": "fft"}, {"precision": "int4"}])
def test_unknown_choices_are_refused(asked):
    with pytest.raises(ValueError, match="expected one of"):
        conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), **asked)
