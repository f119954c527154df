"""Winograd's convolution: 3x3 kernels, with fewer products than there are taps.

A map is cut into tiles of 2x2 outputs. In one dimension, two outputs of a kernel of
three taps take four products instead of six, `y = A [(G k) * (B d)]` for the tile's
inputs d, and in two dimensions 16 instead of 36 (Lavin and Gray, 2016, F(2x2, 3x3)). A
map of two pixels a side is one tile, all zeros around it: three products are enough
there, and 9 in two dimensions, where patches times kernel would take 36.

A, B and G hold 0, 1 and 1/2 up to the sign, so that the result is as near to the exact
one as a plain sum of products.
"""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.models.im2col import num_parts


Matrix = tuple[tuple[float, ...], ...]

TILE = 2
"""Outputs of a tile, in one dimension."""

CACHE_BYTES = 2**21
"""What a part's transformed inputs and its products may take."""


class Filter(NamedTuple):
    """Matrices with `y = outputs [(kernel k) * (inputs d)]`, A, G and B of the paper."""

    inputs: Matrix
    kernel: Matrix
    outputs: Matrix


TILED = Filter(
    inputs=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    outputs=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""F(2, 3): d is four inputs, tiles overlap by two of them."""

ALONE = Filter(
    inputs=((1, 1), (0, 1), (1, 0)),
    kernel=((0, 1, 0), (0, -1, 1), (1, -1, 0)),
    outputs=((1, 1, 0), (1, 0, 1)),
)
"""Two inputs between zeros: `y1 = k1 (d1 + d2) + (k2 - k1) d2`, and y2 likewise."""


def _filter(size: int) -> Filter:
    return ALONE if size == TILE else TILED


def _times(matrix: Matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """The matrix times the parts, a sum for each row."""
    return [
        reduce(add, (f * part for f, part in zip(row, parts, strict=True) if f))
        for row in matrix
    ]


def _windows(x: jax.Array, axis: int) -> list[jax.Array]:
    """The first inputs of all tiles, the second, and so on."""
    size = x.shape[axis]
    if size == TILE:
        return [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(TILE)]
    padded = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)])
    last = size - TILE + 1
    return [lax.slice_in_dim(padded, i, i + last, TILE, axis) for i in range(TILE + 2)]


def _transform(x: jax.Array) -> jax.Array:
    """B d B^T of every tile: `[B, H, W, Cin]` -> `[points, tiles, Cin]`."""
    tall, wide = _filter(x.shape[1]), _filter(x.shape[2])
    points = [
        point.reshape(-1, x.shape[-1])
        for row in _times(tall.inputs, _windows(x, 1))
        for point in _times(wide.inputs, _windows(row, 2))
    ]
    return jnp.stack(points)


def _transform_kernel(kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    """G k G^T: `[3, 3, Cin, Cout]` -> `[points, Cin, Cout]`."""
    tall, wide = map(_filter, size)
    rows = _times(tall.kernel, list(kernel))
    return jnp.stack([p for row in rows for p in _times(wide.kernel, list(row))])


def _assemble(products: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A m A^T of every tile: `[points, tiles, Cout]` -> `[B, H, W, Cout]`.

    Pixels of a tile's row lie side by side in memory, as channels do: joined as
    channels they are copied in longer pieces.
    """
    batch, height, width = shape
    tall, wide = _filter(height), _filter(width)
    points = products.reshape(
        len(tall.inputs), len(wide.inputs), batch, height // TILE, width // TILE, -1
    )
    rows = [
        jnp.concatenate(_times(wide.outputs, list(row)), axis=-1)
        for row in _times(tall.outputs, list(points))
    ]
    rows = [row.reshape(batch, height // TILE, 1, width, -1) for row in rows]
    return jnp.concatenate(rows, axis=2).reshape(batch, height, width, -1)


@jax.custom_vjp
def _products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product for each point, `[points, tiles, Cin]` times `[points, Cin, Cout]`."""
    return lax.batch_matmul(x, kernel)


def _products_forward(x, kernel):
    return _products(x, kernel), (x, kernel)


def _products_backward(residual, dy):
    x, kernel = residual
    turned = lax.optimization_barrier(x.swapaxes(1, 2))
    return lax.batch_matmul(dy, kernel.swapaxes(1, 2)), lax.batch_matmul(turned, dy)


_products.defvjp(_products_forward, _products_backward)


def _most(tiles: int, transformed: jax.Array) -> int:
    """How many examples' transformed inputs and products a cache holds.

    More where reading the transformed kernel would take longer than reading those.
    """
    points, inputs, outputs = transformed.shape
    example = 4 * points * tiles * (inputs + outputs)
    return max(1, max(CACHE_BYTES, 8 * transformed.size) // example)


def winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The 'same'-padded convolution of stride 1 with a 3x3 kernel.

    `Y = A [(G k G^T) * (B d B^T)] A^T` for every tile, `*` between points and a matrix
    product over channels (Lavin and Gray, 2016, equation 12).

    The gradients are those of autodiff, which transforms the inputs again rather than
    keep them: they are four times as large as the inputs.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[3, 3, Cin, Cout]`.

    Returns:
      `[B, H, W, Cout]`.

    Raises:
      ValueError: if the kernel is not 3x3.
    """
    chex.assert_rank([x, kernel], 4)
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"kernel of {kernel.shape[:2]}: winograd expects 3x3.")
    batch, height, width, channels = x.shape
    odd = (height % TILE, width % TILE)
    x = jnp.pad(x, [(0, 0), (0, odd[0]), (0, odd[1]), (0, 0)])
    size = x.shape[1:3]
    transformed = _transform_kernel(kernel, size)

    @partial(jax.checkpoint, prevent_cse=False)
    def convolved(transformed, x):
        products = _products(_transform(x), transformed)
        return _assemble(products, x.shape[:3])

    parts = num_parts(batch, _most(size[0] * size[1] // TILE**2, transformed))
    x = x.reshape(parts, -1, *size, channels)
    y = lax.map(partial(convolved, transformed), x)
    return y.reshape(batch, *size, -1)[:, :height, :width]
