"""A convolution and its kernel gradient as matrix products of shifted copies.

Called outside a program, their loops would be compiled anew each time: each is a
program of its own there, and part of the caller's inside one.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.checks import check_choice
from fedjax_sl.layers.precision import (
    Precision,
    backend_precision,
    matmul,
    rounded,
    sum_dtype,
)


FEW_CHANNELS = 8
"""With fewer input channels than this, a matrix product is too narrow."""

NARROW = 16
"""With at most this many output channels, a row of the product fills no register."""

CACHE_BYTES = 2**20
"""Size limit of a product's shifted copies: half a core's cache, on most CPUs."""

PATCH_BYTES = 2**21
"""Size limit of the patches of a product with a column for each pixel."""


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _shifted(
    x: jax.Array, axis: int, offsets: range, *, channels: int = -1
) -> jax.Array:
    """Concatenates zero-padded copies of x, shifted along an axis, as channels."""
    edge = max(abs(offset) for offset in offsets)
    widths = [(edge, edge) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, widths)
    size = x.shape[axis]
    copies = [
        lax.slice_in_dim(padded, edge + offset, edge + offset + size, axis=axis)
        for offset in offsets
    ]
    return jnp.concatenate(copies, axis=channels)


def _offsets(size: int) -> range:
    return range(-(size // 2), size // 2 + 1)


def num_parts(batch: int, most: int) -> int:
    """Returns the fewest equal parts of a batch with at most `most` examples each."""
    # Divisors only: a scan has no shorter last part.
    return batch // max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)


def _with_pixels_last(
    x: jax.Array, kernel: jax.Array, precision: Precision
) -> jax.Array:
    """Computes `im2col` with a column for each pixel, in parts that stay in a cache."""
    height, width, inputs, outputs = kernel.shape
    weights = _rows(kernel)

    def of_part(x):
        first = x.transpose(3, 0, 1, 2)
        columns = _shifted(first, 3, _offsets(width), channels=0)
        patches = _shifted(columns, 2, _offsets(height), channels=0)
        y = matmul(weights.T, patches.reshape(len(weights), -1), precision)
        return y.reshape(outputs, *x.shape[:3]).transpose(1, 2, 3, 0)

    pixels = x.shape[1] * x.shape[2]
    most = max(1, PATCH_BYTES // (4 * pixels * len(weights)))
    parts = x.reshape(num_parts(len(x), most), -1, *x.shape[1:])
    return lax.map(of_part, parts).reshape(*x.shape[:3], outputs)


@partial(jax.jit, static_argnames="precision", inline=True)
def im2col(
    x: jax.Array, kernel: jax.Array, precision: Precision = "float32"
) -> jax.Array:
    """Computes the 'same'-padded convolution of stride 1 as patches times kernel.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      precision: of the products.

    Returns:
      `[B, H, W, Cout]`.
    """
    check_choice("precision", precision, Precision)
    height, width, _, outputs = kernel.shape
    # Before the copies, which are smaller then.
    x, kernel = rounded(x, precision), rounded(kernel, precision)
    if outputs <= NARROW:
        return _with_pixels_last(x, kernel, precision)
    columns = _shifted(x, 2, _offsets(width))
    patches = _shifted(columns, 1, _offsets(height))
    y = matmul(_rows(patches), _rows(kernel), precision)
    return y.reshape(*x.shape[:-1], outputs)


def _product(x, dy, size: tuple[int, int], precision: Precision) -> jax.Array:
    """Multiplies column-shifted inputs by row-shifted output gradients."""
    # Shifts split between the factors make the product as square as possible, and copy
    # each factor three times instead of one of them nine times.
    height, width = size
    columns = _rows(_shifted(x, 2, _offsets(width)))
    # In reverse: moving dy one way pairs it with x as moving x the other way does.
    rows = _rows(_shifted(dy, 1, _offsets(height)[::-1]))
    return matmul(columns.T, rows, precision)


def _most(pixels: int, shape: tuple[int, ...]) -> int:
    """Returns the number of examples whose shifted copies fit in a core's cache."""
    height, width, inputs, outputs = shape
    # As `_product` splits the shifts: columns of x, rows of dy.
    copied = width * inputs + height * outputs
    product = height * width * inputs * outputs
    # More for a large product: summing the products of many small parts would take
    # longer than reading copies that have left the cache.
    rows = max(CACHE_BYTES // (4 * copied), 2 * product // copied)
    return max(1, rows // pixels)


def _as_convolution(x, dy, size: tuple[int, int], precision: Precision) -> jax.Array:
    """Computes the kernel gradient by convolving inputs with output gradients."""
    # Batch and channels are swapped; a matrix product would have too few rows.
    return lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        [(n // 2, n // 2) for n in size],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=backend_precision(precision),
        preferred_element_type=sum_dtype(x),
    ).transpose(1, 2, 0, 3)


@partial(jax.jit, static_argnames=("shape", "precision"), inline=True)
def kernel_gradient(
    x: jax.Array,
    dy: jax.Array,
    shape: tuple[int, ...],
    precision: Precision = "float32",
) -> jax.Array:
    """Computes the gradient at a convolution's kernel, summed over parts of the batch.

    Args:
      x: `[B, H, W, Cin]`, the input of the convolution.
      dy: `[B, H, W, Cout]`, the gradient at its output.
      shape: of the kernel, `(kh, kw, Cin, Cout)`.
      precision: of the products.

    Returns:
      `[kh, kw, Cin, Cout]`.
    """
    check_choice("precision", precision, Precision)
    height, width, inputs, outputs = shape
    x, dy = rounded(x, precision), rounded(dy, precision)
    if inputs < FEW_CHANNELS:
        return _as_convolution(x, dy, (height, width), precision)
    parts = num_parts(len(x), _most(x.shape[1] * x.shape[2], shape))
    pairs = [v.reshape(parts, -1, *v.shape[1:]) for v in (x, dy)]

    def add(total, pair):
        part_x, part_dy = pair
        return total + _product(part_x, part_dy, (height, width), precision), None

    # Of the dtype of sums: added up in bf16, many parts would lose digits.
    zero = jnp.zeros((width * inputs, height * outputs), sum_dtype(x))
    product, _ = lax.scan(add, zero, tuple(pairs))
    product = product.reshape(width, inputs, height, outputs)
    return product.transpose(2, 0, 1, 3)
