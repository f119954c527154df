"""Patches of the pixels that are kept, against XLA's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedjax_sl.layers.conv import conv
from tests.worlds import assert_close


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("image", [(8, 8), (7, 9)])
def test_values_and_gradients_are_those_of_lax(key, size, stride, image):
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (2, *image, 4))
    kernel = jax.random.normal(keys[1], (size, size, 4, 5))

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(size // 2, size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )

    expected, back = jax.vjp(reference, x, kernel)
    dy = jax.random.normal(keys[2], expected.shape)
    for lowering in ("matmul", "xla", "auto"):
        y, own = jax.vjp(
            lambda x, kernel, n=lowering: conv(x, kernel, lowering=n, stride=stride),
            x,
            kernel,
        )
        assert_close(y, expected, 1e-4)
        assert_close(own(dy), back(dy), 1e-4)


def test_it_is_every_other_pixel_of_the_whole_convolution(key):
    x, kernel = jax.random.normal(key, (2, 6, 6, 3)), jnp.ones((3, 3, 3, 4))
    every = conv(x, kernel)[:, ::2, ::2]
    np.testing.assert_allclose(conv(x, kernel, stride=2), every, rtol=1e-5, atol=1e-5)


def test_it_is_never_of_the_pixels_that_fit_alone(key):
    x, kernel = jax.random.normal(key, (2, 6, 6, 3)), jnp.ones((3, 3, 3, 4))
    with pytest.raises(ValueError, match="stride=2: expected 1 with valid=True"):
        conv(x, kernel, stride=2, valid=True)
