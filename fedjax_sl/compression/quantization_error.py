"""Expected squared error of stochastic quantisation, exact and bounded."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression.quantization import Norm, norm_of, position


def exact_variance(x: jax.Array, *, levels: Any, norm: Norm) -> jax.Array:
    """E|Q(x) - x|^2 = (norm / s)^2 sum_i f_i (1 - f_i), f_i = r_i - floor(r_i).

    Args:
      x: `[...]`.
      levels: s.
      norm: "max" or "l2".

    Returns:
      [] float32.
    """
    check_choice("norm", norm, Norm)
    check_integer("levels", levels, 1)
    scale = norm_of(x, norm)
    r = position(x, scale, levels)
    fraction = r - jnp.floor(r)
    return (scale / levels) ** 2 * (fraction * (1 - fraction)).sum()


def variance_bound(size: int, *, levels: Any, norm: Norm) -> jax.Array:
    """q_b with E|Q(x) - x|^2 <= q_b |x|^2: min(M / (4 s^2), sqrt(M) / s).

    Holds for both norms (QSGD, Lemma 3.1, with the sharper f(1 - f) <= 1/4): the max
    norm is never larger than the 2-norm.

    Args:
      size: M, entries of the tensor.
      levels: s.
      norm: "max" or "l2".

    Returns:
      [] float32.
    """
    check_choice("norm", norm, Norm)
    check_integer("size", size, 1)
    check_integer("levels", levels, 1)
    size = jnp.float32(size)
    # The first is the smaller one for s above sqrt(M) / 4.
    return jnp.minimum(size / (4.0 * levels**2), jnp.sqrt(size) / levels)
