"""Max-pooling over 2x2 windows, whose gradient goes to one place in each window.

The gradient of `reduce_window` is a slow scatter on a CPU. That of a maximum over
reshaped axes divides by how many entries equal the maximum, which is none where a
compiler rounds the entries and their maximum differently. Here the forward pass keeps
which entry won, and the gradient is a choice.
"""

import chex
import jax
import jax.numpy as jnp


def _windows(x):
    """`[B, H, W, Ch]` -> `[B, H / 2, 2, W / 2, 2, Ch]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _winner(x):
    """Number 0 to 3 of the first largest entry of each window, uint8."""
    windows = _windows(x)
    a, b = windows[:, :, 0, :, 0], windows[:, :, 0, :, 1]
    c, d = windows[:, :, 1, :, 0], windows[:, :, 1, :, 1]
    upper, lower = jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3)
    best = jnp.where(jnp.maximum(a, b) >= jnp.maximum(c, d), upper, lower)
    return best.astype(jnp.uint8)


@jax.custom_vjp
def _pool(x):
    return _windows(x).max(axis=(2, 4))


def _forward(x):
    return _pool(x), _winner(x)


def _backward(winner, dy):
    place = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    chosen = winner[:, :, None, :, None, :] == place
    windows = jnp.where(chosen, dy[:, :, None, :, None, :], 0)
    batch, rows, _, columns, _, channels = windows.shape
    return (windows.reshape(batch, 2 * rows, 2 * columns, channels),)


_pool.defvjp(_forward, _backward)


def max_pool(x: jax.Array) -> jax.Array:
    """The maximum of each 2x2 window; an odd last row or column is dropped.

    Args:
      x: `[B, H, W, Ch]`.

    Returns:
      `[B, H // 2, W // 2, Ch]`. Of equal entries the first receives the gradient.
    """
    chex.assert_rank(x, 4)
    height, width = x.shape[1:3]
    return _pool(x[:, : height - height % 2, : width - width % 2])
