"""`lax.conv`, as the lowerings of a convolution call it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.checks import check_choice
from fedjax_sl.layers.precision import (
    Precision,
    backend_precision,
    rounded,
    sum_dtype,
)


SLOW_CHANNELS = 16
"""With at most this many input and output channels, XLA uses a slower library on a
CPU."""


def lax_conv(
    x: jax.Array,
    kernel: jax.Array,
    precision: Precision,
    sums: Any,
    *,
    stride: int = 1,
    valid: bool = False,
) -> jax.Array:
    """Computes `lax.conv` of rounded factors.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      precision: of the products.
      sums: their dtype; None for that of the factors.
      stride: of rows and columns.
      valid: return the pixels around which the kernel fits, rather than all.
    """
    check_choice("precision", precision, Precision)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        # "SAME" would pad otherwise with a stride, and leave other pixels.
        [(0, 0) if valid else (size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=backend_precision(precision),
        preferred_element_type=sums,
    )


def canonical(
    x: jax.Array, kernel: jax.Array, precision: Precision, *, stride: int = 1
) -> jax.Array:
    """Computes `lax.conv`, with more channels where XLA would take a slower path.

    Args:
      x: `[B, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`, kh and kw odd.
      precision: of the products.
      stride: of rows and columns.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), Cout]`.
    """
    check_choice("precision", precision, Precision)
    inputs, outputs = kernel.shape[2:]
    none = (0, 0)
    if inputs == outputs == SLOW_CHANNELS:
        # Of the inputs, in a fifth less time: 17 outputs would fill another register.
        x = jnp.pad(x, [none, none, none, (0, 1)])
        kernel = jnp.pad(kernel, [none, none, (0, 1), none])
    elif max(inputs, outputs) <= SLOW_CHANNELS:
        more = SLOW_CHANNELS + 1 - outputs
        kernel = jnp.pad(kernel, [none, none, none, (0, more)])
    x, kernel = rounded(x, precision), rounded(kernel, precision)
    y = lax_conv(x, kernel, precision, sum_dtype(x), stride=stride)
    return y[..., :outputs]
