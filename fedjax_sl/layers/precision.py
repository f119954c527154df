"""Precision of products: their factors are rounded, their sums are at least float32."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_sl.checks import check_choice


Precision = Literal["float32", "tf32", "bf16"]
"""Of the products in a convolution; its output has the dtype of its arguments."""


class _Kind(NamedTuple):
    """The factors' dtype, None for the arguments' own, and JAX's name of the products.

    `high` is tf32 on a GPU, and as good on a TPU; `default` would be tf32 for float32
    on a GPU, and bf16 on a TPU.
    """

    factor: Any
    backend: str


_KINDS: dict[Precision, _Kind] = {
    "float32": _Kind(None, "highest"),
    "tf32": _Kind(None, "high"),
    "bf16": _Kind(jnp.bfloat16, "default"),
}


def _kind(precision: Precision) -> _Kind:
    check_choice("precision", precision, Precision)
    return _KINDS[precision]


def backend_precision(precision: Precision) -> str:
    """JAX's name of a precision."""
    return _kind(precision).backend


def rounded(x: jax.Array, precision: Precision) -> jax.Array:
    """Rounds factors of products."""
    factor = _kind(precision).factor
    return x if factor is None else x.astype(factor)


def sum_dtype(factor: jax.Array) -> Any:
    """Returns the dtype of sums of products."""
    return jnp.promote_types(factor.dtype, jnp.float32)


def product(a: jax.Array, b: jax.Array, along: Any, precision: Precision) -> jax.Array:
    """Multiplies rounded factors.

    Args:
      a: a factor.
      b: the other.
      along: contracted and batch axes, as of `lax.dot_general`.
      precision: of the products.

    Returns:
      The product, of `sum_dtype`.
    """
    # Sums in float32 are exact enough, and all that CPUs have instructions for.
    return lax.dot_general(
        a,
        b,
        along,
        precision=backend_precision(precision),
        preferred_element_type=sum_dtype(a),
    )


def matmul(a: jax.Array, b: jax.Array, precision: Precision) -> jax.Array:
    """Multiplies two matrices of rounded factors."""
    return product(a, b, (((1,), (0,)), ((), ())), precision)
