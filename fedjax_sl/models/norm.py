"""Group normalisation whose gradient is written on per-channel sums.

The gradient that autodiff derives passes over the activations several times; this one
needs two passes, and everything else happens on arrays `[B, Ch]`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn


EPSILON = 1e-5


def num_groups(channels: int) -> int:
    """The largest number of equal groups of at least 16 channels, else one group."""
    most = max(1, channels // 16)
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def _over_groups(per_channel, groups):
    """Means within each group of channels, repeated for each of its channels."""
    batch, channels = per_channel.shape
    means = per_channel.reshape(batch, groups, -1).mean(axis=2)
    return jnp.repeat(means, channels // groups, axis=1)


def _spread(per_channel):
    """[B, Ch] or [Ch] -> a shape that broadcasts over [B, H, W, Ch]."""
    return per_channel.reshape(-1, 1, 1, per_channel.shape[-1])


def _statistics(x, groups):
    mean = _over_groups(x.mean(axis=(1, 2)), groups)
    square = _over_groups((x * x).mean(axis=(1, 2)), groups)
    return mean, jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + EPSILON)


def _normalise(x, scale, bias, mean, inverse):
    gain = inverse * scale.reshape(1, -1)
    shift = bias.reshape(1, -1) - mean * gain
    return x * _spread(gain) + _spread(shift)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def group_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int
) -> jax.Array:
    """Normalises each group of channels of each example to mean 0 and variance 1.

    `y = scale * (x - mean) / sqrt(variance + 1e-5) + bias` (Wu and He, 2018).

    Args:
      x: `[B, H, W, Ch]`.
      scale: `[Ch]`.
      bias: `[Ch]`.
      groups: number of groups; divides Ch.

    Returns:
      `[B, H, W, Ch]`.
    """
    chex.assert_rank([x, scale, bias], [4, 1, 1])
    return _normalise(x, scale, bias, *_statistics(x, groups))


def _forward(x, scale, bias, groups):
    mean, inverse = _statistics(x, groups)
    return _normalise(x, scale, bias, mean, inverse), (x, scale, mean, inverse)


def _backward(groups, residual, dy):
    x, scale, mean, inverse = residual
    size = x.shape[1] * x.shape[2]
    dy_sum = dy.sum(axis=(1, 2))
    dy_hat = ((dy * x).sum(axis=(1, 2)) - mean * dy_sum) * inverse
    gain = scale.reshape(1, -1)
    offset = _over_groups(gain * dy_sum, groups) / size
    slope = _over_groups(gain * dy_hat, groups) / size * inverse
    dx = (
        dy * _spread(inverse * gain)
        - x * _spread(inverse * slope)
        + _spread(inverse * (mean * slope - offset))
    )
    return dx, dy_hat.sum(axis=0), dy_sum.sum(axis=0)


group_norm.defvjp(_forward, _backward)


class GroupNorm(nn.Module):
    """`group_norm` with its two parameters, and `num_groups` groups."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the normalised x, `[B, H, W, Ch]`."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return group_norm(x, scale, bias, num_groups(channels))
