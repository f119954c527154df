"""Initializers of convolutions and dense layers.

he       normal, with zero biases: variance 2 / fan-in in convolutions (He et al.,
         2015), 1 / fan-in in dense layers (LeCun et al., 1998)
torch    uniform in [-1, 1] / sqrt(fan-in), biases too, as PyTorch's layers start
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.checks import check_choice


Init = Literal["he", "torch"]


def uniform(fan_in: int) -> Any:
    """Returns an initializer that draws from U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)).

    For kernels it is Kaiming's with a = sqrt(5), PyTorch's default.
    """
    bound = fan_in**-0.5

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return draw


def conv_initializers(init: Init, fan_in: int) -> tuple[Any, Any]:
    """Returns the initializers of a convolution's kernel and bias."""
    check_choice("init", init, Init)
    if init == "torch":
        return uniform(fan_in), uniform(fan_in)
    return nn.initializers.he_normal(), nn.initializers.zeros


def dense(x: jax.Array, features: int, init: Init, name: str) -> jax.Array:
    """Applies a named dense layer inside a Flax module, `[B, F]` -> `[B, features]`."""
    check_choice("init", init, Init)
    if init == "torch":
        draw = uniform(x.shape[-1])
        return nn.Dense(features, kernel_init=draw, bias_init=draw, name=name)(x)
    return nn.Dense(features, name=name)(x)
