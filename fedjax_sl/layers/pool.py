"""Pooling over 2x2 windows, without the slow scatter of `reduce_window`'s gradient.

The gradient of a maximum over reshaped axes divides by the number of entries that equal
the maximum, which is 0 if a compiler rounds the entries and their maximum differently.
So `max_pool`, which takes any expression, stores the index of the winner; `pooled` and
`unpooled`, parts of fused operations, find it again by its value, and need values that
round alike wherever they are computed.
"""

import chex
import jax
import jax.numpy as jnp


def _windows(x):
    """`[B, H, W, Ch]` -> `[B, H / 2, 2, W / 2, 2, Ch]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _corners(x):
    """Returns the four entries of each window, each `[B, H / 2, W / 2, Ch]`."""
    # Comparing these is faster than reducing over the windows' axes, which are short
    # and not the innermost.
    windows = _windows(x)
    return [windows[:, :, row, :, column] for row in (0, 1) for column in (0, 1)]


def _winner(x):
    """Returns the index 0 to 3 of the first largest entry of each window, uint8."""
    a, b, c, d = _corners(x)
    upper, lower = jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3)
    best = jnp.where(jnp.maximum(a, b) >= jnp.maximum(c, d), upper, lower)
    # All that is kept for the gradient: one byte a window.
    return best.astype(jnp.uint8)


@jax.custom_vjp
def _pool(x):
    return _windows(x).max(axis=(2, 4))


def _forward(x):
    return _pool(x), _winner(x)


def _backward(winner, dy):
    index = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    chosen = winner[:, :, None, :, None, :] == index
    windows = jnp.where(chosen, dy[:, :, None, :, None, :], 0)
    batch, rows, _, columns, _, channels = windows.shape
    return (windows.reshape(batch, 2 * rows, 2 * columns, channels),)


_pool.defvjp(_forward, _backward)


def _even(x):
    height, width = x.shape[1:3]
    return x[:, : height - height % 2, : width - width % 2]


def max_pool(x: jax.Array) -> jax.Array:
    """Takes the maximum of each 2x2 window; an odd last row or column is dropped.

    Args:
      x: `[B, H, W, Ch]`.

    Returns:
      `[B, H // 2, W // 2, Ch]`. Of equal entries the first receives the gradient.
    """
    chex.assert_rank(x, 4)
    return _pool(_even(x))


def pooled(x: jax.Array, largest: jax.Array) -> jax.Array:
    """Takes the largest or the smallest entry of each 2x2 window, bit for bit.

    Args:
      x: `[B, H, W, Ch]`.
      largest: bool, broadcasts against the result: the largest if True.

    Returns:
      `[B, H // 2, W // 2, Ch]`.
    """
    a, b, c, d = _corners(_even(x))
    high = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    low = jnp.minimum(jnp.minimum(a, b), jnp.minimum(c, d))
    return jnp.where(largest, high, low)


def unpooled(dy: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes the gradient at x of entries y that `pooled` took from its windows.

    Args:
      dy: `[B, H // 2, W // 2, Ch]`, at y.
      x: `[B, H, W, Ch]`, as given to `pooled`: values in memory, or derived from them
        by a single rounding, like a sum.
      y: `[B, H // 2, W // 2, Ch]`, as from `pooled`.

    Returns:
      `[B, H, W, Ch]`, equal entries of a window sharing its gradient.
    """
    even = _even(x)
    picked = _windows(even) == y[:, :, None, :, None, :]
    a, b, c, d = ((corner == y).astype(dy.dtype) for corner in _corners(even))
    # If x rounded otherwise than in `pooled`, no entry would match: 0 / 0.
    share = dy / (a + b + c + d)
    dx = jnp.where(picked, share[:, :, None, :, None, :], 0.0).reshape(even.shape)
    rest = [(0, full - kept) for full, kept in zip(x.shape, even.shape, strict=True)]
    return jnp.pad(dx, rest)
