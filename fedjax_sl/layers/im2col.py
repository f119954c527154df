"""A convolution and its kernel's gradient as matrix products of shifted copies."""

import jax
import jax.numpy as jnp
from jax import lax


FEW_CHANNELS = 8
"""Fewer input channels than this make a product too narrow."""

CACHE_BYTES = 2**20
"""What the shifted copies of a product may take: half a core's cache, on most CPUs."""


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _shifted(x: jax.Array, axis: int, offsets: range) -> jax.Array:
    """Copies of x moved along an axis, zeros moving in, side by side as channels."""
    edge = max(abs(offset) for offset in offsets)
    widths = [(edge, edge) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, widths)
    size = x.shape[axis]
    copies = [
        lax.slice_in_dim(padded, edge + offset, edge + offset + size, axis=axis)
        for offset in offsets
    ]
    return jnp.concatenate(copies, axis=-1)


def _offsets(size: int) -> range:
    return range(-(size // 2), size // 2 + 1)


def im2col(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Patches times kernel: the 'same'-padded convolution of stride 1.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.

    Returns:
      `[B, H, W, Cout]`.
    """
    columns = _shifted(x, 2, _offsets(kernel.shape[1]))
    patches = _shifted(columns, 1, _offsets(kernel.shape[0]))
    return (_rows(patches) @ _rows(kernel)).reshape(*x.shape[:-1], -1)


def num_parts(batch: int, most: int) -> int:
    """The fewest equal parts of a batch with at most that many examples each."""
    return batch // max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)


def _product(x: jax.Array, dy: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Column-shifted inputs times row-shifted output gradients, in one product.

    Splitting the shifts between the two factors makes the product as square as it can
    be, and copies each factor three times instead of one of them nine times.
    """
    height, width = size
    columns = _rows(_shifted(x, 2, _offsets(width)))
    rows = _rows(_shifted(dy, 1, _offsets(height)[::-1]))
    return columns.T @ rows


def _most(pixels: int, shape: tuple[int, ...]) -> int:
    """How many examples' shifted copies a core's cache holds.

    More where the product is larger: adding up the products of many small parts would
    take longer than reading copies that have left the cache.
    """
    height, width, inputs, outputs = shape
    copied = width * inputs + height * outputs
    product = height * width * inputs * outputs
    rows = max(CACHE_BYTES // (4 * copied), 2 * product // copied)
    return max(1, rows // pixels)


def _as_convolution(x: jax.Array, dy: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The kernel's gradient as a convolution of inputs with output gradients.

    Batch and channels change places: a product would have too few rows.
    """
    return lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        [(n // 2, n // 2) for n in size],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ).transpose(1, 2, 0, 3)


def kernel_gradient(x: jax.Array, dy: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The gradient at a convolution's kernel, summed over parts of the batch.

    Args:
      x: `[B, H, W, Cin]`, what was convolved.
      dy: `[B, H, W, Cout]`, the gradient at the result.
      shape: of the kernel, `(kh, kw, Cin, Cout)`.

    Returns:
      `[kh, kw, Cin, Cout]`.
    """
    height, width, inputs, outputs = shape
    if inputs < FEW_CHANNELS:
        return _as_convolution(x, dy, (height, width))
    parts = num_parts(len(x), _most(x.shape[1] * x.shape[2], shape))
    pairs = [v.reshape(parts, -1, *v.shape[1:]) for v in (x, dy)]

    def add(total, pair):
        part_x, part_dy = pair
        return total + _product(part_x, part_dy, (height, width)), None

    zero = jnp.zeros((width * inputs, height * outputs), x.dtype)
    product, _ = lax.scan(add, zero, tuple(pairs))
    product = product.reshape(width, inputs, height, outputs)
    return product.transpose(2, 0, 1, 3)
