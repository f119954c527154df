"""Winograd's transformations of tiles: a 3x3 convolution is a product at each point.

In one dimension, two outputs of a kernel of three taps take four products instead of
six, `y = A [(G k) * (B d)]` for the tile's inputs d, and tiles of 2x2 outputs take 16
instead of 36 (Lavin and Gray, 2016, F(2x2, 3x3)). A map of two pixels a side is one
tile with zeros all around: three products are enough there, and 9 in two dimensions,
where patches times kernel would take 36.

A, B and G hold 0, 1 and 1/2 up to the sign, so that the result is as near to the exact
one as a plain sum of products.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


Matrix = tuple[tuple[float, ...], ...]

TILE = 2
"""Outputs of a tile, in one dimension."""


class Filter(NamedTuple):
    """Matrices A, G and B: `y = outputs [(kernel k) * (inputs d)]`."""

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


Filters = tuple[Filter, Filter]
"""For the rows and for the columns of a map."""


def filters_for(size: tuple[int, int]) -> Filters:
    """Returns the filters of a map with an even number of rows and columns."""
    tall, wide = (ALONE if side == TILE else TILED for side in size)
    return tall, wide


def flipped(filters: Filters) -> Filters:
    """Returns filters that convolve with the flipped kernel, given `G k G^T` of k.

    Flipping a kernel permutes the rows of `G k`, and so the points of a tile.
    """

    def flip(filter_):
        order = [filter_.kernel.index(row[::-1]) for row in filter_.kernel]
        return Filter(
            inputs=tuple(filter_.inputs[n] for n in order),
            kernel=filter_.kernel,
            outputs=tuple(tuple(row[n] for n in order) for row in filter_.outputs),
        )

    tall, wide = filters
    return flip(tall), flip(wide)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _times(matrix: Matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Multiplies a matrix by parts: one sum for each row."""
    # Zeros are skipped: a row is a sum of few terms.
    return [
        reduce(add, (f * part for f, part in zip(row, parts, strict=True) if f))
        for row in matrix
    ]


def _stacked(matrix: Matrix, parts: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack(_times(matrix, parts))


def _held(rows: jax.Array) -> jax.Array:
    """Materialises an array."""
    # XLA would fuse the sums of rows and compute them again for each column.
    return lax.optimization_barrier(rows)


def _windows(x: jax.Array, axis: int, size: int) -> list[jax.Array]:
    """Slices a padded axis: the first inputs of all tiles, the second, and so on."""
    if size == TILE:
        return [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(TILE)]
    last = size - TILE + 1
    return [
        lax.slice_in_dim(x, i, i + last, stride=TILE, axis=axis)
        for i in range(TILE + 2)
    ]


def of_inputs(x: jax.Array, filters: Filters) -> jax.Array:
    """Computes B d B^T of every tile: `[B, H, W, Cin]` -> `[points, tiles, Cin]`."""
    size, (tall, wide) = x.shape[1:3], filters
    edges = [(0, 0) if side == TILE else (1, 1) for side in size]
    x = jnp.pad(x, [(0, 0), *edges, (0, 0)])
    rows = _held(_stacked(tall.inputs, _windows(x, 1, size[0])))
    points = _stacked(wide.inputs, _windows(rows, 3, size[1]))
    return points.reshape(len(tall.inputs) * len(wide.inputs), -1, x.shape[-1])


def of_kernel(kernel: jax.Array, filters: Filters) -> jax.Array:
    """Computes G k G^T: `[3, 3, Cin, Cout]` -> `[points, Cin, Cout]`."""
    tall, wide = filters
    rows = _held(_stacked(tall.kernel, list(kernel)))
    points = _stacked(wide.kernel, [rows[:, j] for j in range(3)])
    return points.reshape(-1, *kernel.shape[2:])


def of_outputs(dy: jax.Array, filters: Filters) -> jax.Array:
    """Computes A^T dy A of every tile: `[B, H, W, Cout]` -> `[points, tiles, Cout]`."""
    batch, height, width, channels = dy.shape
    tall, wide = (_transposed(side.outputs) for side in filters)
    tiles = dy.reshape(batch, height // TILE, TILE, width // TILE, TILE, channels)
    rows = _held(_stacked(tall, [tiles[:, :, i] for i in range(TILE)]))
    points = _stacked(wide, [rows[..., j, :] for j in range(TILE)])
    return points.reshape(len(tall) * len(wide), -1, channels)


def to_outputs(
    products: jax.Array, shape: tuple[int, ...], filters: Filters
) -> jax.Array:
    """Computes A m A^T of every tile: `[points, tiles, Cout]` -> `[B, H, W, Cout]`."""
    # Pixels of a tile's row lie side by side in memory, as channels do: joined as
    # channels they are copied in longer pieces.
    (batch, height, width), (tall, wide) = shape, filters
    points = products.reshape(
        len(wide.inputs), len(tall.inputs), batch, height // TILE, width // TILE, -1
    )
    rows = [
        jnp.concatenate(_times(wide.outputs, list(row)), axis=-1)
        for row in _times(tall.outputs, list(points.swapaxes(0, 1)))
    ]
    rows = [row.reshape(batch, height // TILE, 1, width, -1) for row in rows]
    return jnp.concatenate(rows, axis=2).reshape(batch, height, width, -1)
