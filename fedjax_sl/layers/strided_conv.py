"""Convolutions with a stride, whose gradients are matrix products.

`lax.conv` computes them fastest, but the gradients that autodiff derives from it are
slow inside a loop on a CPU. Those of patches times kernel are not.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice
from fedjax_sl.layers.lax_conv import canonical
from fedjax_sl.layers.precision import Precision, matmul, rounded


def _patches(x: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
    """`[B, H, W, Ch]` -> `[B, H / stride, W / stride, kh kw Ch]`, rounded up."""
    height, width = size
    edges = [(0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)]
    padded, (rows, columns) = jnp.pad(x, edges), x.shape[1:3]
    # Of the pixels that are kept alone: all of them would be stride^2 times the work.
    shifted = [
        padded[:, row : row + rows : stride, column : column + columns : stride]
        for row in range(height)
        for column in range(width)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _as_product(x, kernel, precision, stride):
    """Computes the convolution as patches times kernel."""
    height, width, _, outputs = kernel.shape
    x, kernel = rounded(x, precision), rounded(kernel, precision)
    patches = _patches(x, (height, width), stride)
    rows = patches.reshape(-1, patches.shape[-1])
    y = matmul(rows, kernel.reshape(-1, outputs), precision)
    return y.reshape(*patches.shape[:-1], outputs)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x, kernel, precision, stride):
    """Computes the convolution by `lax.conv`."""
    return canonical(x, kernel, precision, stride=stride)


def _forward(x, kernel, precision, stride):
    return _convolution(x, kernel, precision, stride), (x, kernel)


def _backward(precision, stride, residual, dy):
    product = partial(_as_product, precision=precision, stride=stride)
    return jax.vjp(product, *residual)[1](dy)


_convolution.defvjp(_forward, _backward)


def strided_conv(
    x: jax.Array, kernel: jax.Array, precision: Precision = "float32", *, stride: int
) -> jax.Array:
    """Computes every `stride`-th row and column of the 'same'-padded convolution.

    Pads half a kernel on each side, as PyTorch with `padding=k // 2` does; TensorFlow's
    'SAME' pads less on the left where the stride is 2.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      precision: of the products.
      stride: of rows and columns.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), Cout]`.
    """
    check_choice("precision", precision, Precision)
    chex.assert_rank([x, kernel], 4)
    # Pixels times kernel are a product as they are.
    one = kernel.shape[:2] == (1, 1)
    return (_as_product if one else _convolution)(x, kernel, precision, stride)
