"""The convolution whose lowering can be chosen.

Every lowering computes the same 'same'-padded convolution of stride 1. They differ in
the program that XLA is handed, and so in speed, by a factor of twenty on a CPU: inside
the body of a loop, the gradients that autodiff derives from a convolution fall to a
naive path there, while the same gradients written as ordinary operations do not.

    xla        lax.conv, with the gradients of autodiff
    canonical  lax.conv forward and for the input gradient
    matmul     patches times kernel (im2col), forward and for the input gradient
    auto       chosen by backend and shape

In canonical and matmul the kernel gradient is a sum of matrix products over parts of
the batch that stay in a core's cache, or with few input channels a convolution.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


Lowering = Literal["auto", "xla", "canonical", "matmul"]

Precision = Literal["float32", "tf32", "bf16"]
"""Of the products in a convolution; what goes in and comes out is float32."""

_PRECISIONS: dict[Precision, tuple[Any, str]] = {
    "float32": (jnp.float32, "highest"),
    "tf32": (jnp.float32, "high"),
    "bf16": (jnp.bfloat16, "default"),
}
"""The factors' dtype, and what the hardware is asked for: `high` is tf32 on a GPU, and
as good on a TPU; `default` would be tf32 for float32 on a GPU, and bf16 on a TPU."""

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


def _transpose(kernel: jax.Array) -> jax.Array:
    """The kernel of the input gradient: flipped in space, channels exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _product(x: jax.Array, dy: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Column-shifted inputs times row-shifted output gradients, in one product.

    Splitting the shifts between the two factors makes the product as square as it can
    be, and copies each factor three times instead of one of them nine times.
    """
    height, width = size
    columns = _rows(_shifted(x, 2, _offsets(width)))
    rows = _rows(_shifted(dy, 1, _offsets(height)[::-1]))
    return columns.T @ rows


def _slices(x: jax.Array, dy: jax.Array, size: tuple[int, int]) -> int:
    """In how many parts a batch's shifted copies stay in a core's cache.

    A part is larger where its product is: adding up the products of many small parts
    would take longer than reading copies that have left the cache.
    """
    batch, pixels = len(x), x.shape[1] * x.shape[2]
    copied = size[1] * x.shape[-1] + size[0] * dy.shape[-1]
    product = size[0] * size[1] * x.shape[-1] * dy.shape[-1]
    rows = max(CACHE_BYTES // (4 * copied), 2 * product // copied)
    most = max(1, rows // pixels)
    return batch // max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)


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


def _kernel_gradient(x: jax.Array, dy: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The gradient at the kernel, summed over parts of the batch."""
    height, width, inputs, outputs = shape
    if inputs < FEW_CHANNELS:
        return _as_convolution(x, dy, (height, width))
    parts = _slices(x, dy, (height, width))
    pairs = [v.reshape(parts, -1, *v.shape[1:]) for v in (x, dy)]

    def add(total, pair):
        part_x, part_dy = pair
        return total + _product(part_x, part_dy, (height, width)), None

    zero = jnp.zeros((width * inputs, height * outputs), x.dtype)
    product, _ = lax.scan(add, zero, tuple(pairs))
    product = product.reshape(width, inputs, height, outputs)
    return product.transpose(2, 0, 1, 3)


def _xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    columns = _shifted(x, 2, _offsets(kernel.shape[1]))
    patches = _shifted(columns, 1, _offsets(kernel.shape[0]))
    return (_rows(patches) @ _rows(kernel)).reshape(*x.shape[:-1], -1)


def _with_gradients(convolve: Callable, asked: str) -> Callable:
    """Gives a convolution gradients made of itself and of a matrix product."""

    @jax.custom_vjp
    def differentiable(x, kernel):
        with jax.default_matmul_precision(asked):
            return convolve(x, kernel)

    def forward(x, kernel):
        return differentiable(x, kernel), (x, kernel)

    def backward(residual, dy):
        x, kernel = residual
        dx = differentiable(dy, _transpose(kernel))
        with jax.default_matmul_precision(asked):
            return dx, _kernel_gradient(x, dy, kernel.shape)

    differentiable.defvjp(forward, backward)
    return differentiable


LOWERINGS: tuple[Lowering, ...] = ("xla", "canonical", "matmul")


@cache
def _lowered(lowering: Lowering, precision: Precision) -> Callable:
    """`(x, kernel) -> y`, one function for each choice."""
    _, asked = _PRECISIONS[precision]
    if lowering == "xla":
        return jax.default_matmul_precision(asked)(_xla)
    convolve = {"canonical": _xla, "matmul": _patches}[lowering]
    return _with_gradients(convolve, asked)


def choose(x_shape: tuple[int, ...], backend: str) -> Lowering:
    """The lowering found fastest for inputs `[B, H, W, Ch]` on a backend.

    As `benchmarks/conv.py` measures it, see docs/convolutions.md: on a CPU `lax.conv`
    is fast except on maps smaller than the kernel, and products are faster where there
    are only a few input channels.
    """
    _, height, width, channels = x_shape
    if backend != "cpu":
        return "xla"
    small = min(height, width) < 3 or channels < FEW_CHANNELS
    return "matmul" if small else "canonical"


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    lowering: Lowering = "auto",
    precision: Precision = "float32",
) -> jax.Array:
    """The 'same'-padded convolution of stride 1.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      lowering: how it is computed, see the module's docstring.
      precision: of its products, forward and backward.

    Returns:
      `[B, H, W, Cout]` float32.

    Raises:
      ValueError: if the lowering or the precision is unknown.
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_equal(x.shape[-1], kernel.shape[2])
    if lowering not in get_args(Lowering):
        raise ValueError(
            f"lowering={lowering!r}: expected one of {get_args(Lowering)}."
        )
    if precision not in _PRECISIONS:
        raise ValueError(
            f"precision={precision!r}: expected one of {get_args(Precision)}."
        )
    if lowering == "auto":
        lowering = choose(x.shape, jax.default_backend())
    dtype, _ = _PRECISIONS[precision]
    lowered = _lowered(lowering, precision)
    return lowered(x.astype(dtype), kernel.astype(dtype)).astype(jnp.float32)


class Conv(nn.Module):
    """A convolution with bias, `size` x `size`, He-initialised."""

    features: int
    size: int = 3
    lowering: Lowering = "auto"
    precision: Precision = "float32"

    @nn.compact
    def parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns `[B, H, W, features]` without the bias, and the bias."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = conv(x, kernel, lowering=self.lowering, precision=self.precision)
        return y, bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[B, H, W, features]`."""
        y, bias = self.parts(x)
        return y + bias.reshape(1, 1, 1, -1)
