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
from jax.experimental.layout import Layout, with_layout_constraint

from fedjax_sl.models.im2col import num_parts


Matrix = tuple[tuple[float, ...], ...]

TILE = 2
"""Outputs of a tile, in one dimension."""

CACHE_BYTES = 2**21
"""What a part's transformed inputs and its products may take."""


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


def _filters(size: tuple[int, int]) -> tuple[Filter, Filter]:
    """For the rows and for the columns of a map."""
    tall, wide = (ALONE if side == TILE else TILED for side in size)
    return tall, wide


def _flipped(one: Filter) -> Filter:
    """The filter that takes `G k` for what the other takes `G flip(k)`.

    Flipping the kernel exchanges rows of `G k`; so the points of the others are.
    """
    order = [one.kernel.index(row[::-1]) for row in one.kernel]
    return Filter(
        inputs=tuple(one.inputs[n] for n in order),
        kernel=one.kernel,
        outputs=tuple(tuple(row[n] for n in order) for row in one.outputs),
    )


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _times(matrix: Matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """The matrix times the parts, a sum for each row."""
    return [
        reduce(add, (f * part for f, part in zip(row, parts, strict=True) if f))
        for row in matrix
    ]


def _stacked(matrix: Matrix, parts: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack(_times(matrix, parts))


def _held(rows: jax.Array) -> jax.Array:
    """Kept in memory: XLA would compute sums of rows again for each column."""
    return lax.optimization_barrier(rows)


def _windows(x: jax.Array, axis: int, size: int) -> list[jax.Array]:
    """The first inputs of all tiles, the second, and so on; of a padded axis."""
    if size == TILE:
        return [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(TILE)]
    last = size - TILE + 1
    return [lax.slice_in_dim(x, i, i + last, TILE, axis) for i in range(TILE + 2)]


def _of_inputs(x: jax.Array, filters: tuple[Filter, Filter]) -> jax.Array:
    """B d B^T of every tile: `[B, H, W, Cin]` -> `[points, tiles, Cin]`."""
    size, (tall, wide) = x.shape[1:3], filters
    edges = [(0, 0) if side == TILE else (1, 1) for side in size]
    x = jnp.pad(x, [(0, 0), *edges, (0, 0)])
    rows = _held(_stacked(tall.inputs, _windows(x, 1, size[0])))
    points = _stacked(wide.inputs, _windows(rows, 3, size[1]))
    return points.reshape(len(tall.inputs) * len(wide.inputs), -1, x.shape[-1])


def _of_kernel(kernel: jax.Array, filters: tuple[Filter, Filter]) -> jax.Array:
    """G k G^T: `[3, 3, Cin, Cout]` -> `[points, Cin, Cout]`."""
    tall, wide = filters
    rows = _held(_stacked(tall.kernel, list(kernel)))
    points = _stacked(wide.kernel, [rows[:, j] for j in range(3)])
    return points.reshape(-1, *kernel.shape[2:])


def _of_outputs(dy: jax.Array, filters: tuple[Filter, Filter]) -> jax.Array:
    """A^T dy A of every tile: `[B, H, W, Cout]` -> `[points, tiles, Cout]`."""
    batch, height, width, channels = dy.shape
    tall, wide = (_transposed(one.outputs) for one in filters)
    tiles = dy.reshape(batch, height // TILE, TILE, width // TILE, TILE, channels)
    rows = _held(_stacked(tall, [tiles[:, :, i] for i in range(TILE)]))
    points = _stacked(wide, [rows[..., j, :] for j in range(TILE)])
    return points.reshape(len(tall) * len(wide), -1, channels)


def _to_outputs(
    products: jax.Array, shape: tuple[int, ...], filters: tuple[Filter, Filter]
) -> jax.Array:
    """A m A^T of every tile: `[points, tiles, Cout]` -> `[B, H, W, Cout]`.

    Pixels of a tile's row lie side by side in memory, as channels do: joined as
    channels they are copied in longer pieces.
    """
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


def _parts(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """`[parts, B / parts, H, W, Ch]`, so that a cache holds a part's points.

    A part is larger where reading the transformed kernel would take longer than that.
    """
    batch, height, width, channels = x.shape
    points, inputs, outputs = transformed.shape
    example = 4 * points * height * width // TILE**2 * (inputs + outputs)
    most = max(1, max(CACHE_BYTES, 8 * transformed.size) // example)
    return x.reshape(num_parts(batch, most), -1, height, width, channels)


def _convolved(x, transformed, filters, *, axis: int) -> jax.Array:
    """Convolved with a kernel whose given axis has the channels of x."""

    def convolved(part):
        along = (((2,), (axis,)), ((0,), (0,)))
        products = lax.dot_general(_of_inputs(part, filters), transformed, along)
        return _to_outputs(products, part.shape[:3], filters)

    y = lax.map(convolved, _parts(x, transformed))
    return y.reshape(*x.shape[:3], -1)


@jax.custom_vjp
def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Of maps with an even number of rows and columns."""
    return _forward(x, kernel)[0]


def _forward(x, kernel):
    filters = _filters(x.shape[1:3])
    transformed = _of_kernel(kernel, filters)
    return _convolved(x, transformed, filters, axis=1), (x, transformed)


def _input_gradient(dy, transformed, filters):
    """The gradient convolved with the kernel flipped in space, channels exchanged."""
    tall, wide = filters
    return _convolved(dy, transformed, (_flipped(tall), _flipped(wide)), axis=2)


def _turned(points: jax.Array) -> jax.Array:
    """`[points, tiles, Cin]` -> `[points, Cin, tiles]`, copied.

    XLA's fast product wants channels for rows in memory. Without the barrier XLA takes
    the copy back; without the layout it makes it one element at a time, from the sums.
    """
    points = with_layout_constraint(points, Layout((0, 1, 2)))
    return lax.optimization_barrier(points.swapaxes(1, 2))


def _kernel_gradient(x, dy, transformed, filters):
    """`G^T [(B d B^T) * (A^T dy A)] G`, summed over parts of the batch."""

    def add_part(total, pair):
        part, dpart = pair
        turned = _turned(_of_inputs(part, filters))
        return total + lax.batch_matmul(turned, _of_outputs(dpart, filters)), None

    parts = _parts(x, transformed), _parts(dy, transformed)
    total, _ = lax.scan(add_part, jnp.zeros_like(transformed), parts)
    kernel = jax.ShapeDtypeStruct((3, 3, *transformed.shape[1:]), x.dtype)
    back = jax.linear_transpose(partial(_of_kernel, filters=filters), kernel)
    return back(total)[0]


def _backward(residual, dy):
    x, transformed = residual
    filters = _filters(x.shape[1:3])
    return (
        _input_gradient(dy, transformed, filters),
        _kernel_gradient(x, dy, transformed, filters),
    )


_convolution.defvjp(_forward, _backward)


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The 'same'-padded convolution of stride 1 with a 3x3 kernel.

    `Y = A [(G k G^T) * (B d B^T)] A^T` for every tile, `*` between points and a matrix
    product over channels (Lavin and Gray, 2016, equation 12).

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
        raise ValueError(f"kernel of {kernel.shape[:2]}: winograd expects (3, 3).")
    height, width = x.shape[1:3]
    x = jnp.pad(x, [(0, 0), (0, height % TILE), (0, width % TILE), (0, 0)])
    return _convolution(x, kernel)[:, :height, :width]
