"""Batch norm over the real examples of a batch: alone, or fused with ReLU and pooling.

Padded examples do not count. The fused version has a gradient of its own. As in
`group_norm`, it passes over the activations as rarely as possible: pooling comes before
the normalisation, which is monotone in each channel, and everything else happens on
arrays `[B, Ch]` and `[Ch]`.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.layers.pool import pooled, unpooled


EPSILON = 1e-5
MOMENTUM = 0.9


def _spread(per_channel):
    """Reshapes [B, Ch] or [Ch] to broadcast over [B, H, W, Ch]."""
    return per_channel.reshape(-1, 1, 1, per_channel.shape[-1])


def _mean(x, weight):
    """Averages over the real examples and all pixels, `[Ch]`."""
    # A batch of padding alone has mean 0 rather than 0 / 0.
    total = jnp.maximum(weight.sum(), 1.0)
    return (weight.reshape(-1, 1) * x.mean(axis=(1, 2))).sum(axis=0) / total


def _statistics(x, weight):
    mean = _mean(x, weight)
    # One pass for both moments; rounding may make the difference negative.
    return mean, jnp.maximum(_mean(x * x, weight) - mean * mean, 0.0)


def _normalise(x, scale, bias, moments, *, pool):
    mean, variance = moments
    gain = scale * jax.lax.rsqrt(variance + EPSILON)
    # Under a negative gain the maximum of y comes from the minimum of x.
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
    """Applies batch norm to h = max(x + offset, 0), then 2x2 max pooling if `pool`.

    `y = scale * (h - mean) / sqrt(variance + 1e-5) + bias`, mean and variance of each
    channel over the real examples of the batch (Ioffe and Szegedy, 2015).

    Args:
      x: `[B, H, W, Ch]`.
      offset: `[Ch]`, such as the bias of the convolution before.
      weight: `[B]`, 1 for an example and 0 for padding, which does not count.
      scale: `[Ch]`.
      bias: `[Ch]`.
      pool: take the maximum of each 2x2 window; an odd last row or column is dropped.

    Returns:
      y `[B, H, W, Ch]`, or `[B, H // 2, W // 2, Ch]`; and the batch's mean and variance
      `[Ch]`, through which no gradient flows. Equal entries of a window share its
      gradient.
    """
    return _forward(x, offset, weight, scale=scale, bias=bias, pool=pool)[0]


def _forward(x, offset, weight, scale, bias, pool):
    chex.assert_rank([x, offset, weight, scale, bias], [4, 1, 1, 1, 1])
    h = nn.relu(x + _spread(offset))
    mean, variance = _statistics(h, weight)
    y = _normalise(h, scale, bias, (mean, variance), pool=pool)
    return (y, mean, variance), (x, offset, weight, scale, mean, variance)


def _backward(pool, residual, gradients):
    x, offset, weight, scale, mean, variance = residual
    dy = gradients[0]
    # Not kept from the forward pass: that would be another array of this size.
    h = nn.relu(x + _spread(offset))
    inverse = jax.lax.rsqrt(variance + EPSILON)
    gain = scale * inverse
    extreme = pooled(h, _spread(gain >= 0)) if pool else h
    dbias = dy.sum(axis=(0, 1, 2))
    dscale = ((dy * extreme).sum(axis=(0, 1, 2)) - mean * dbias) * inverse
    # d(mean) and d(variance) reach every real entry as an affine function of h.
    size = jnp.maximum(weight.sum(), 1.0) * (x.shape[1] * x.shape[2])
    slope = inverse * dscale / size
    # By weight: neither mean nor variance depends on padding.
    level = jnp.outer(weight, gain * (mean * slope - dbias / size))
    if pool:
        dy = unpooled(dy, h, extreme)
    dh = dy * _spread(gain) - h * _spread(jnp.outer(weight, gain * slope))
    dx = jnp.where(h > 0, dh + _spread(level), 0.0)
    # Weights are data, but a custom gradient must return one for every argument.
    return dx, dx.sum(axis=(0, 1, 2)), jnp.zeros_like(weight), dscale, dbias


relu_batch_norm.defvjp(_forward, _backward)


class _Running(NamedTuple):
    """Running statistics of a norm, `[Ch]` each."""

    mean: nn.Variable
    variance: nn.Variable

    def known(self) -> tuple[jax.Array, jax.Array]:
        # Noise of the Gaussian mechanism may make an averaged variance negative.
        return self.mean.value, jnp.maximum(self.variance.value, 0.0)

    def learn(self, mean: jax.Array, variance: jax.Array, weight: jax.Array) -> None:
        """Updates with a batch's statistics, unless it is all padding."""
        for running, batch in ((self.mean, mean), (self.variance, variance)):
            # The variance is biased, as in Flax; PyTorch keeps an unbiased one.
            moved = MOMENTUM * running.value + (1 - MOMENTUM) * batch
            running.value = jnp.where(weight.any(), moved, running.value)


def _state(norm: nn.Module, channels: int) -> tuple[jax.Array, jax.Array, _Running]:
    """Declares the scale, bias and running statistics of a module."""
    shape = (channels,)
    scale = norm.param("scale", nn.initializers.ones, shape)
    bias = norm.param("bias", nn.initializers.zeros, shape)
    mean = norm.variable("batch_stats", "mean", jnp.zeros, shape)
    variance = norm.variable("batch_stats", "var", jnp.ones, shape)
    return scale, bias, _Running(mean, variance)


class BatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy, 2015) over the real examples of a batch.

    Flax's own takes a mask of all entries, which costs another pass over them, and
    returns NaN for a batch of padding alone.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Normalises `[B, H, W, Ch]`.

        Args:
          x: the activations.
          train: use this batch's statistics, and update the running ones.
          weight: `[B]`, 1 for an example and 0 for padding; no padding if not given.

        Returns:
          `[B, H, W, Ch]`.
        """
        scale, bias, running = _state(self, x.shape[-1])
        if not train:
            return _normalise(x, scale, bias, running.known(), pool=False)
        weight = jnp.ones(len(x)) if weight is None else weight
        mean, variance = _statistics(x, weight)
        running.learn(mean, variance, weight)
        return _normalise(x, scale, bias, (mean, variance), pool=False)


class ReluBatchNorm(nn.Module):
    """`relu_batch_norm` with its parameters and its running statistics."""

    pool: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, offset: jax.Array, train: bool, weight: jax.Array
    ) -> jax.Array:
        """Returns the activations; `train` uses and records the batch's statistics."""
        scale, bias, running = _state(self, x.shape[-1])
        if not train:
            h = nn.relu(x + _spread(offset))
            return _normalise(h, scale, bias, running.known(), pool=self.pool)
        y, mean, variance = relu_batch_norm(  # type: ignore[misc]
            x, offset, weight, scale=scale, bias=bias, pool=self.pool
        )
        running.learn(mean, variance, weight)
        return y
