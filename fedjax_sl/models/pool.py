"""Max-pooling over 2x2 windows.

Written as a maximum over reshaped axes: its gradient is then elementwise, where that of
`reduce_window` is a slow scatter on a CPU.
"""

import chex
import jax


def max_pool(x: jax.Array) -> jax.Array:
    """The maximum of each 2x2 window; an odd last row or column is dropped.

    Args:
      x: `[B, H, W, Ch]`.

    Returns:
      `[B, H // 2, W // 2, Ch]`.
    """
    chex.assert_rank(x, 4)
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    windows = x[:, : 2 * rows, : 2 * columns].reshape(
        batch, rows, 2, columns, 2, channels
    )
    return windows.max(axis=(2, 4))
