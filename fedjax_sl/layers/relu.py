"""ReLU whose gradient is computed from its output."""

import jax
import jax.numpy as jnp
from flax import linen as nn


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Takes the maximum of each entry and 0, `[...]`.

    Autodiff keeps a mask for the gradient, another array, and XLA reads flags entry by
    entry on a CPU. The output is kept anyway, as the input of what follows.
    """
    return nn.relu(x)


def _forward(x):
    y = nn.relu(x)
    return y, y


def _backward(y, dy):
    return (jnp.where(y > 0, dy, 0),)


relu.defvjp(_forward, _backward)
