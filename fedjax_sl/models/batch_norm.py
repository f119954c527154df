"""Batch normalisation that leaves padded examples out, with a hand-written gradient.

As in `norm`, the gradient needs two passes over the activations, and everything else
happens on arrays `[B, Ch]` and `[Ch]`.
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn


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


def _normalise(x, scale, bias, mean, variance):
    gain = scale * jax.lax.rsqrt(variance + EPSILON)
    return x * _spread(gain) + _spread(bias - mean * gain)


@jax.custom_vjp
def batch_norm(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel over the real examples of a batch.

    `y = scale * (x - mean) / sqrt(variance + 1e-5) + bias` (Ioffe and Szegedy, 2015).

    Args:
      x: `[B, H, W, Ch]`.
      weight: `[B]`, 1 for an example and 0 for padding, which counts nothing.
      scale: `[Ch]`.
      bias: `[Ch]`.

    Returns:
      y `[B, H, W, Ch]`, and the batch's mean and variance `[Ch]`, through which no
      gradient flows.
    """
    chex.assert_rank([x, weight, scale, bias], [4, 1, 1, 1])
    mean, variance = _statistics(x, weight)
    return _normalise(x, scale, bias, mean, variance), mean, variance


def _forward(x, weight, scale, bias):
    y, mean, variance = batch_norm(x, weight, scale, bias)
    return (y, mean, variance), (x, weight, scale, mean, variance)


def _backward(residual, gradients):
    x, weight, scale, mean, variance = residual
    dy = gradients[0]
    inverse = jax.lax.rsqrt(variance + EPSILON)
    dbias = dy.sum(axis=(0, 1, 2))
    dscale = ((dy * x).sum(axis=(0, 1, 2)) - mean * dbias) * inverse
    size = jnp.maximum(weight.sum(), 1.0) * (x.shape[1] * x.shape[2])
    gain, slope = scale * inverse, inverse * dscale / size
    offset = jnp.outer(weight, gain * (mean * slope - dbias / size))
    dx = dy * _spread(gain) - x * _spread(jnp.outer(weight, gain * slope))
    dx += _spread(offset)
    return dx, jnp.zeros_like(weight), dscale, dbias


batch_norm.defvjp(_forward, _backward)


class BatchNorm(nn.Module):
    """`batch_norm` with its parameters and its running statistics."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weight: jax.Array) -> jax.Array:
        """Returns the normalised x; `train` takes and keeps the batch's statistics."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            return _normalise(x, scale, bias, mean.value, variance.value)
        y, batch_mean, batch_variance = batch_norm(x, weight, scale, bias)
        mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
        variance.value = MOMENTUM * variance.value + (1 - MOMENTUM) * batch_variance
        return y
