"""ReLU, batch norm and pooling as one operation with one gradient.

Padded examples count nothing. As in `norm`, what is memory-bound is passed over as
rarely as can be: pooling comes before the normalisation, which is monotone in each
channel, and everything else happens on arrays `[B, Ch]` and `[Ch]`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.models.pool import pooled, unpooled


EPSILON = 1e-5
MOMENTUM = 0.9


def _spread(per_channel):
    """[B, Ch] or [Ch] -> a shape that broadcasts over [B, H, W, Ch]."""
    return per_channel.reshape(-1, 1, 1, per_channel.shape[-1])


def _mean(x, weight):
    """`[Ch]`, the mean over the real examples and all places."""
    total = jnp.maximum(weight.sum(), 1.0)
    return (weight.reshape(-1, 1) * x.mean(axis=(1, 2))).sum(axis=0) / total


def _statistics(x, weight):
    mean = _mean(x, weight)
    return mean, jnp.maximum(_mean(x * x, weight) - mean * mean, 0.0)


def _normalise(x, scale, bias, mean, variance, pool):
    gain = scale * jax.lax.rsqrt(variance + EPSILON)
    extreme = pooled(x, _spread(gain >= 0)) if pool else x
    return extreme * _spread(gain) + _spread(bias - mean * gain)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def relu_batch_norm(
    x: jax.Array,
    offset: jax.Array,
    weight: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    pool: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm of h = max(x + offset, 0), of maxima of 2x2 windows if pooled.

    `y = scale * (h - mean) / sqrt(variance + 1e-5) + bias`, mean and variance of each
    channel over the real examples of the batch (Ioffe and Szegedy, 2015).

    Args:
      x: `[B, H, W, Ch]`.
      offset: `[Ch]`, such as the bias of the convolution before.
      weight: `[B]`, 1 for an example and 0 for padding, which counts nothing.
      scale: `[Ch]`.
      bias: `[Ch]`.
      pool: take the maximum of each 2x2 window; an odd last row or column is dropped.

    Returns:
      y `[B, H, W, Ch]`, or `[B, H // 2, W // 2, Ch]`; and the batch's mean and variance
      `[Ch]`, through which no gradient flows. Of equal entries of a window each
      receives its share of the gradient.
    """
    return _forward(x, offset, weight, scale, bias, pool)[0]


def _forward(x, offset, weight, scale, bias, pool):
    chex.assert_rank([x, offset, weight, scale, bias], [4, 1, 1, 1, 1])
    h = nn.relu(x + _spread(offset))
    mean, variance = _statistics(h, weight)
    y = _normalise(h, scale, bias, mean, variance, pool)
    return (y, mean, variance), (x, offset, weight, scale, mean, variance)


def _backward(pool, residual, gradients):
    x, offset, weight, scale, mean, variance = residual
    dy = gradients[0]
    h = nn.relu(x + _spread(offset))
    inverse = jax.lax.rsqrt(variance + EPSILON)
    gain = scale * inverse
    extreme = pooled(h, _spread(gain >= 0)) if pool else h
    dbias = dy.sum(axis=(0, 1, 2))
    dscale = ((dy * extreme).sum(axis=(0, 1, 2)) - mean * dbias) * inverse
    size = jnp.maximum(weight.sum(), 1.0) * (x.shape[1] * x.shape[2])
    slope = inverse * dscale / size
    level = jnp.outer(weight, gain * (mean * slope - dbias / size))
    if pool:
        dy = unpooled(dy, h, extreme)
    dh = dy * _spread(gain) - h * _spread(jnp.outer(weight, gain * slope))
    dx = jnp.where(h > 0, dh + _spread(level), 0.0)
    return dx, dx.sum(axis=(0, 1, 2)), jnp.zeros_like(weight), dscale, dbias


relu_batch_norm.defvjp(_forward, _backward)


class ReluBatchNorm(nn.Module):
    """`relu_batch_norm` with its parameters and its running statistics."""

    pool: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, offset: jax.Array, train: bool, weight: jax.Array
    ) -> jax.Array:
        """Returns the activations; `train` takes and keeps the batch's statistics."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            h = nn.relu(x + _spread(offset))
            # A mean of variances that noise was added to may be less than 0.
            known = jnp.maximum(variance.value, 0.0)
            return _normalise(h, scale, bias, mean.value, known, self.pool)
        y, batch_mean, batch_variance = relu_batch_norm(  # type: ignore[misc]
            x, offset, weight, scale, bias, self.pool
        )
        mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
        variance.value = MOMENTUM * variance.value + (1 - MOMENTUM) * batch_variance
        return y
