"""Winograd's convolution with 3x3 kernels.

Each of a tile's points is a matrix product over channels, whose rows are the tiles of a
part of the batch. The parts are small enough to stay in a core's cache.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.layers.im2col import num_parts
from fedjax_sl.layers.precision import Precision, product, rounded
from fedjax_sl.layers.winograd_tiles import (
    TILE,
    filters_for,
    flipped,
    of_inputs,
    of_kernel,
    of_outputs,
    to_outputs,
)


CACHE_BYTES = 2**21
"""Size limit of a part's transformed inputs and products."""


def _parts(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """Splits a batch so that a cache holds a part, `[parts, B / parts, H, W, Ch]`."""
    batch, height, width, channels = x.shape
    points, inputs, outputs = transformed.shape
    example = 4 * points * height * width // TILE**2 * (inputs + outputs)
    # Each part reads the whole transformed kernel: parts must not be small beside it.
    most = max(1, max(CACHE_BYTES, 8 * transformed.size) // example)
    return x.reshape(num_parts(batch, most), -1, height, width, channels)


def _convolved(x, transformed, filters, precision, *, axis: int) -> jax.Array:
    """Convolves with a transformed kernel whose `axis` has the channels of x."""

    def convolved(part):
        along = (((2,), (axis,)), ((0,), (0,)))
        inputs = rounded(of_inputs(part, filters), precision)
        products = product(inputs, transformed, along, precision)
        return to_outputs(products, part.shape[:3], filters)

    y = lax.map(convolved, _parts(x, transformed))
    return y.reshape(*x.shape[:3], -1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, precision: Precision) -> jax.Array:
    """Convolves maps with an even number of rows and columns."""
    return _forward(x, kernel, precision)[0]


# Called outside a program, its loop would be compiled anew each time.
@partial(jax.jit, static_argnames="precision", inline=True)
def _forward(x, kernel, precision):
    filters = filters_for(x.shape[1:3])
    # Sums are transformed exactly, and rounded as factors.
    transformed = rounded(of_kernel(kernel, filters), precision)
    return _convolved(x, transformed, filters, precision, axis=1), (x, transformed)


def _input_gradient(dy, transformed, filters, precision):
    """Convolves the gradient with the kernel flipped in space, channels swapped."""
    # Other filters take the same transformed kernel, which is not computed again.
    return _convolved(dy, transformed, flipped(filters), precision, axis=2)


def _turned(points: jax.Array) -> jax.Array:
    """Copies `[points, tiles, Cin]` to `[points, Cin, tiles]`."""
    # XLA's fast product needs channels as rows in memory. Without the barrier XLA
    # undoes the copy; without the layout it copies element by element, from the sums.
    points = with_layout_constraint(points, Layout((0, 1, 2)))
    return lax.optimization_barrier(points.swapaxes(1, 2))


def _kernel_gradient(x, dy, transformed, filters, *, precision):
    """`G^T [(B d B^T) * (A^T dy A)] G`, summed over parts of the batch."""

    def add_part(total, pair):
        part, dpart = pair
        turned = _turned(rounded(of_inputs(part, filters), precision))
        outputs = rounded(of_outputs(dpart, filters), precision)
        along = (((2,), (1,)), ((0,), (0,)))
        return total + product(turned, outputs, along, precision), None

    parts = _parts(x, transformed), _parts(dy, transformed)
    # Of the input's dtype: added up in bf16, many parts would lose digits.
    zero = jnp.zeros_like(transformed, dtype=x.dtype)
    total, _ = lax.scan(add_part, zero, parts)
    kernel = jax.ShapeDtypeStruct((3, 3, *transformed.shape[1:]), x.dtype)
    # The sum over parts comes first: the transformation is linear.
    back = jax.linear_transpose(partial(of_kernel, filters=filters), kernel)
    return back(total)[0]


@partial(jax.jit, static_argnames="precision", inline=True)
def _backward(precision, residual, dy):
    x, transformed = residual
    filters = filters_for(x.shape[1:3])
    return (
        _input_gradient(dy, transformed, filters, precision),
        _kernel_gradient(x, dy, transformed, filters, precision=precision),
    )


_convolution.defvjp(_forward, _backward)


def winograd(
    x: jax.Array, kernel: jax.Array, precision: Precision = "float32"
) -> jax.Array:
    """Computes the 'same'-padded convolution of stride 1 with a 3x3 kernel.

    `Y = A [(G k G^T) * (B d B^T)] A^T` for every tile, `*` between points and a matrix
    product over channels (Lavin and Gray, 2016).

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[3, 3, Cin, Cout]`.
      precision: of the products.

    Returns:
      `[B, H, W, Cout]`.

    Raises:
      ValueError: if the kernel is not 3x3, or the precision is unknown.
    """
    check_choice("precision", precision, Precision)
    chex.assert_rank([x, kernel], 4)
    if kernel.shape[:2] != (3, 3):
        raise InputError(f"kernel of {kernel.shape[:2]}: winograd expects (3, 3).")
    height, width = x.shape[1:3]
    # An odd map gets a row or column of zeros, as 'same' padding has there anyway.
    x = jnp.pad(x, [(0, 0), (0, height % TILE), (0, width % TILE), (0, 0)])
    y: jax.Array = _convolution(x, kernel, precision)  # type: ignore[assignment]
    return y[:, :height, :width]
