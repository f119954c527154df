"""Group normalisation, pooling and ReLU, fused into one operation with one gradient.

On a CPU everything between two convolutions is memory-bound, so the cost is the number
of passes over the activations. Fused, a bias before the norm changes only the sums per
channel, pooling comes before the normalisation, which is monotone in each channel, and
the ReLU needs no mask of its own. The forward pass reads the activations twice, the
backward pass twice; the rest are arrays `[B, Ch]`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.layers.pool import pooled, unpooled


EPSILON = 1e-5


def num_groups(channels: int) -> int:
    """Returns the largest number of equal groups of at least 16 channels, else 1."""
    most = max(1, channels // 16)
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def _over_groups(per_channel, groups):
    """Averages within each group of channels, repeated for each of its channels."""
    batch, channels = per_channel.shape
    means = per_channel.reshape(batch, groups, -1).mean(axis=2)
    return jnp.repeat(means, channels // groups, axis=1)


def _spread(per_channel):
    """Reshapes [B, Ch] to broadcast over [B, H, W, Ch]."""
    return per_channel[:, None, None, :]


def _statistics(x, offset, groups):
    """Means of x + offset per channel, and per group the mean and 1 / deviation."""
    offset = offset[None]
    sums = x.mean(axis=(1, 2))
    # (x + c)^2 expanded: adding c to x would be another pass.
    squares = (x * x).mean(axis=(1, 2)) + offset * (2 * sums + offset)
    centre = sums + offset
    mean, square = _over_groups(centre, groups), _over_groups(squares, groups)
    # Rounding may make the difference negative.
    inverse = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + EPSILON)
    return centre, mean, inverse


def _affine(offset, scale, bias, *, mean, inverse):
    """Writes the norm as gain * x + shift, both [B, Ch]."""
    gain = inverse * scale[None]
    return gain, bias[None] + gain * (offset[None] - mean)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def group_norm(
    x: jax.Array,
    offset: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    pool: bool,
    relu: bool,
) -> jax.Array:
    """Applies group norm to x + offset, 2x2 max pooling if `pool`, ReLU if `relu`.

    `y = max(scale * (x + offset - mean) / sqrt(variance + 1e-5) + bias, 0)`, mean and
    variance over each group of channels of each example (Wu and He, 2018).

    Args:
      x: `[B, H, W, Ch]`.
      offset: `[Ch]`, such as the bias of the convolution before.
      scale: `[Ch]`.
      bias: `[Ch]`.
      groups: number of groups; divides Ch.
      pool: take the maximum of each 2x2 window; an odd last row or column is dropped.
      relu: take the maximum with 0.

    Returns:
      `[B, H, W, Ch]`, or `[B, H // 2, W // 2, Ch]`. Equal entries of a window share its
      gradient.
    """
    return _forward(x, offset, scale, bias, groups=groups, pool=pool, relu=relu)[0]


def _forward(x, offset, scale, bias, groups, pool, relu):
    chex.assert_rank([x, offset, scale, bias], [4, 1, 1, 1])
    statistics = _, mean, inverse = _statistics(x, offset, groups)
    gain, shift = _affine(offset, scale, bias, mean=mean, inverse=inverse)
    # Under a negative gain the maximum of y comes from the minimum of x.
    extreme = pooled(x, _spread(gain >= 0)) if pool else x
    y = extreme * _spread(gain) + _spread(shift)
    return nn.relu(y) if relu else y, (x, offset, scale, bias, statistics)


def _backward(groups, pool, relu, residual, dy):
    x, offset, scale, bias, (centre, mean, inverse) = residual
    size = x.shape[1] * x.shape[2]
    gain, shift = _affine(offset, scale, bias, mean=mean, inverse=inverse)
    extreme = pooled(x, _spread(gain >= 0)) if pool else x
    dz = dy
    if relu:
        # Its mask is recomputed: keeping it would be another array of this size.
        dz = jnp.where(extreme * _spread(gain) + _spread(shift) > 0, dy, 0.0)
    dz_sum = dz.sum(axis=(1, 2))
    dot = (dz * extreme).sum(axis=(1, 2))
    dscale = (dot + (offset[None] - mean) * dz_sum) * inverse
    # d(mean) and d(variance) reach every entry as an affine function of x.
    level = _over_groups(scale[None] * dz_sum, groups) / size
    slope = _over_groups(scale[None] * dscale, groups) / size * inverse
    if pool:
        dz = unpooled(dz, x, extreme)
    step = inverse * ((mean - offset[None]) * slope - level)
    dx = dz * _spread(gain) - x * _spread(inverse * slope) + _spread(step)
    # The sum of dx over pixels, written out: summing it would be another pass.
    doffset = gain * dz_sum - inverse * size * (slope * (centre - mean) + level)
    return dx, doffset.sum(axis=0), dscale.sum(axis=0), dz_sum.sum(axis=0)


group_norm.defvjp(_forward, _backward)


class GroupNorm(nn.Module):
    """`group_norm` with its two parameters, and `num_groups` groups."""

    pool: bool = False
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, offset: jax.Array) -> jax.Array:
        """Returns the activations of x + offset, `[B, H, W, Ch]` or pooled."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return group_norm(
            x,
            offset,
            scale,
            bias,
            groups=num_groups(channels),
            pool=self.pool,
            relu=self.relu,
        )
