"""A convolution with a choice of lowerings.

Every lowering computes the same 'same'-padded convolution. They differ in
the program that XLA receives, and so in speed, by a factor of twenty on a CPU: inside
the body of a loop, XLA compiles the gradients that autodiff derives from a convolution
to a naive path, but not the same gradients written as ordinary operations.

    xla        lax.conv, with the gradients of autodiff
    canonical  lax.conv forward and for the input gradient
    matmul     patches times kernel (im2col), forward and for the input gradient
    winograd   tiles in another basis, with fewer MACs; 3x3 kernels only
    auto       chosen by backend and shape

In canonical and matmul the kernel gradient is a sum of matrix products over parts of
the batch that stay in a core's cache, or with few input channels a convolution.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.layers.im2col import FEW_CHANNELS, im2col, kernel_gradient
from fedjax_sl.layers.initializers import Init, conv_initializers
from fedjax_sl.layers.lax_conv import canonical, lax_conv
from fedjax_sl.layers.precision import Precision, rounded
from fedjax_sl.layers.strided_conv import strided_conv
from fedjax_sl.layers.winograd import winograd
from fedjax_sl.layers.winograd_tiles import TILE


Lowering = Literal["auto", "xla", "canonical", "matmul", "winograd"]

MANY_PRODUCTS: dict[Precision, int] = {"float32": 4096, "tf32": 4096, "bf16": 2048}
"""Input times output channels from which Winograd's transformations pay off."""


def _transpose(kernel: jax.Array) -> jax.Array:
    """Returns the kernel of the input gradient: flipped in space, channels swapped."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _xla(
    x: jax.Array, kernel: jax.Array, precision: Precision, stride: int = 1
) -> jax.Array:
    """`lax.conv`, which autodiff takes only with sums of the factors' dtype."""
    x, kernel = rounded(x, precision), rounded(kernel, precision)
    return lax_conv(x, kernel, precision, None, stride=stride)


def _with_gradients(convolve: Callable) -> Callable:
    """Defines the gradients of a convolution by itself and by a matrix product."""

    # Autodiff's own gradient of a convolution is slow inside a loop on a CPU.
    @partial(jax.custom_vjp, nondiff_argnums=(2,))
    def differentiable(x, kernel, precision):
        return convolve(x, kernel, precision)

    def forward(x, kernel, precision):
        return differentiable(x, kernel, precision), (x, kernel)

    def backward(precision, residual, dy):
        x, kernel = residual
        # By itself, not by `convolve`: second gradients are of this kind, too.
        dx = differentiable(dy, _transpose(kernel), precision)
        return dx, kernel_gradient(x, dy, kernel.shape, precision)

    differentiable.defvjp(forward, backward)
    return differentiable


_LOWERED: dict[Lowering, Callable] = {
    "xla": _xla,
    "canonical": _with_gradients(canonical),
    "matmul": _with_gradients(im2col),
    "winograd": winograd,
}
"""`(x, kernel, precision) -> y`."""

LOWERINGS = tuple(_LOWERED)


def choose(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    backend: str,
    precision: Precision = "float32",
) -> Lowering:
    """Chooses the fastest lowering for `[B, H, W, Cin]` and `[kh, kw, Cin, Cout]`.

    Measured by `benchmarks/conv.py`, see docs/convolutions.md: on a CPU, Winograd's
    tiles pay off with many channels, or if a map is one tile; else `lax.conv` is fast
    except on maps smaller than the kernel, and matrix products are faster with few
    input channels.
    """
    check_choice("precision", precision, Precision)
    side, (*size, inputs, outputs) = min(x_shape[1:3]), kernel_shape
    # Not measured on accelerators, which keep `lax.conv` and autodiff's gradients.
    if backend != "cpu":
        return "xla"
    if inputs < FEW_CHANNELS:
        return "matmul"
    if size == [3, 3] and (
        inputs * outputs >= MANY_PRODUCTS[precision] or side == TILE
    ):
        return "winograd"
    return "matmul" if side < 3 else "canonical"


# Not a global: another thread may compile a round while this one counts.
_AS_WRITTEN = ContextVar("as_written", default=False)


@contextmanager
def as_written() -> Iterator[None]:
    """Traces every convolution as one operation, whose MACs can be counted."""
    before = _AS_WRITTEN.set(True)
    try:
        yield
    finally:
        _AS_WRITTEN.reset(before)


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    lowering: Lowering = "auto",
    precision: Precision = "float32",
    stride: int = 1,
    valid: bool = False,
) -> jax.Array:
    """Computes the 'same'-padded convolution, or every `stride`-th pixel of it.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      lowering: how it is computed, see the module's docstring; with a stride there are
        two ways, "xla" and `strided_conv`.
      precision: of its products, forward and backward.
      stride: of rows and columns.
      valid: return the pixels around which the kernel fits, without a stride.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), Cout]`, or `[B, H - kh + 1, W - kw + 1,
      Cout]`, of the wider dtype of the two.

    Raises:
      ValueError: if the lowering or the precision is unknown, or a stride is given
        with `valid`.
    """
    check_choice("lowering", lowering, Lowering)
    check_choice("precision", precision, Precision)
    chex.assert_rank([x, kernel], 4)
    chex.assert_equal(x.shape[-1], kernel.shape[2])
    if valid and stride > 1:
        raise InputError(f"stride={stride}: expected 1 with valid=True.")
    if _AS_WRITTEN.get():
        lowering = "xla"
    elif lowering == "auto":
        backend = jax.default_backend()
        lowering = choose(x.shape, kernel.shape, backend, precision)
    wide = jnp.result_type(x, kernel)
    lowered = _LOWERED[lowering]
    if stride > 1:
        lowered = partial(_xla if lowering == "xla" else strided_conv, stride=stride)
    x, kernel = x.astype(wide), kernel.astype(wide)
    if valid and _AS_WRITTEN.get():
        return lax_conv(x, kernel, precision, wide, valid=True)
    # bf16 is of the products: layers before and after see the arguments' dtype.
    y = lowered(x, kernel, precision).astype(wide)
    if not valid:
        return y
    # Cut off after padding: the lowerings that are fast in a loop all pad.
    rows, columns = (size // 2 for size in kernel.shape[:2])
    return y[:, rows : y.shape[1] - rows, columns : y.shape[2] - columns]


class Conv(nn.Module):
    """A convolution with bias, `size` x `size`, of every `stride`-th pixel."""

    features: int
    size: int = 3
    stride: int = 1
    lowering: Lowering = "auto"
    precision: Precision = "float32"
    initial: Init = "he"
    valid: bool = False

    # Here, not at `__call__`: Flax allows one compact method, and this is called alone.
    @nn.compact
    def parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns `[B, H, W, features]` without the bias, and the bias."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        fan_in = self.size**2 * x.shape[-1]
        kernel_init, bias_init = conv_initializers(self.initial, fan_in)
        kernel = self.param("kernel", kernel_init, shape)
        bias = self.param("bias", bias_init, (self.features,))
        # The bias stays apart: a norm may fold it into its sums, without a pass over y.
        y = conv(
            x,
            kernel,
            lowering=self.lowering,
            precision=self.precision,
            stride=self.stride,
            valid=self.valid,
        )
        return y, bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[B, H, W, features]`."""
        y, bias = self.parts(x)
        return y + bias.reshape(1, 1, 1, -1)
