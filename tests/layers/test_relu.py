"""ReLU and its gradient are those of JAX, and no flags are kept for it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedjax_sl.layers.relu import relu


X = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf])


def test_values_and_gradients():
    np.testing.assert_array_equal(relu(X), nn.relu(X))
    dy = jnp.arange(1.0, 7.0)
    for function in (relu, jax.jit(relu), jax.vmap(relu)):
        [found] = jax.vjp(function, X)[1](dy)
        [expected] = jax.vjp(nn.relu, X)[1](dy)
        np.testing.assert_array_equal(found, expected)


def test_what_is_kept_is_the_output():
    kept = jax.tree.leaves(jax.vjp(relu, X)[1])
    assert [leaf.dtype for leaf in kept] == [X.dtype]
