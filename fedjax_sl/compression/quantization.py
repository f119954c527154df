"""Uniform quantisation, one norm per tensor; unbiased if rounding is stochastic.

One quantiser serves both methods. Method A (arXiv 2412.06414, reconstructed) scales by
the largest magnitude and spends one of b bits on the sign; method B (Entropy 2023, 25,
1205, after QSGD) scales by the 2-norm and has 2^b levels.
"""

from functools import partial
from numbers import Integral
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression import draws
from fedjax_sl.compression.rounding import Rounding, rebuilt, rounded


Norm = Literal["max", "l2"]

FLOAT_BITS = 32
"""With this many bits nothing is quantised: values are sent as float32."""


class Quantized(NamedTuple):
    """A quantised tensor.

    Attributes:
      norm: [] float32, the value of level s.
      level: `[...]` int32 in [-levels, levels].
    """

    norm: jax.Array
    level: jax.Array


def levels_from_bits(bits: Any, *, signed: bool) -> Any:
    """Returns the number of levels s for b bits.

    Args:
      bits: b, an integer (2..31 if signed, 1..30 if not) or a traced value.
      signed: s = 2^(b-1) - 1, with one bit for the sign (method A); otherwise s = 2^b,
        with the sign sent separately (method B).

    Returns:
      s, a plain integer if `bits` is one.

    Raises:
      ValueError: if a plain `bits` lies outside its range.
    """
    # s is an int32 where b is traced: 2^(b-1) - 1 and 2^b have to fit.
    check_integer("bits", bits, *((2, 31) if signed else (1, 30)))
    if isinstance(bits, Integral):
        return 2 ** (int(bits) - 1) - 1 if signed else 2 ** int(bits)
    bits = jnp.asarray(bits, jnp.int32)
    return jnp.left_shift(1, bits - 1) - 1 if signed else jnp.left_shift(1, bits)


def bits_from_levels(levels: Any, *, signed: bool) -> Any:
    """Returns the fewest bits b with room for s levels, as `levels_from_bits` has it.

    Args:
      levels: s, 1 to 2^23 - 1, an integer or a traced value.
      signed: 2 s + 1 codes of b bits; otherwise the smallest b, 1 or more, with
        s <= 2^b.

    Returns:
      b, a plain integer if `levels` is one.
    """
    check_integer("levels", levels, 1)
    # Codes of -s..s go up to 2 s; with the sign apart s is to be at most 2^b.
    last = 2 * levels if signed else levels - 1
    if isinstance(levels, Integral):
        return max(1, int(last).bit_length())
    return jnp.maximum(32 - jax.lax.clz(jnp.asarray(last, jnp.int32)), 1)


def norm_of(x: jax.Array, norm: Norm) -> jax.Array:
    """Computes the scale of a tensor: its largest magnitude or its 2-norm, []."""
    check_choice("norm", norm, Norm)
    return jnp.abs(x).max() if norm == "max" else jnp.sqrt((x * x).sum())


def position(x: jax.Array, scale: jax.Array, levels: Any) -> jax.Array:
    """r_i = s |x_i| / norm, in [0, s]; 0 for a zero tensor."""
    # The guard avoids 0 / 0 for a zero tensor.
    ratio = jnp.abs(x) / jnp.where(scale > 0, scale, 1.0)
    # A rounded 2-norm may be less than |x_i|.
    return jnp.clip(ratio * levels, 0.0, levels)


def quantize(
    key: jax.Array,
    x: jax.Array,
    *,
    levels: Any,
    norm: Norm,
    rounding: Rounding = "stochastic",
) -> Quantized:
    """Rounds each entry to one of the two nearest levels; unbiased if stochastic.

    `r_i = s |x_i| / norm`, `level_i = sgn(x_i) (floor(r_i) + [u_i < r_i - floor(r_i)])`
    with u_i uniform on [0, 1) (QSGD, eq. (4)); other roundings as in
    `compression.rounding`.

    Args:
      key: a key used here only.
      x: `[...]` float32.
      levels: s, may be traced.
      norm: "max" or "l2".
      rounding: of each entry's position between two levels.

    Returns:
      The quantised tensor; a zero tensor has norm and levels 0.

    Raises:
      ValueError: if norm or rounding is unknown, or a plain number of levels not
        positive.
    """
    check_choice("rounding", rounding, Rounding)
    check_choice("norm", norm, Norm)
    draw = draws.uniform(key, x.shape)
    return _quantize(draw, x, levels, norm=norm, rounding=rounding)


def _quantize(
    draw: jax.Array, x: jax.Array, levels: Any, *, norm: Norm, rounding: Rounding
) -> Quantized:
    chex.assert_type(x, float)
    check_integer("levels", levels, 1)
    levels = jnp.asarray(levels, jnp.float32)
    # Entries are placed by the float32 that is sent: the receiver has no other.
    scale = norm_of(x, norm).astype(jnp.float32)
    # Magnitudes are rounded, then signed: the floor of an entry lies nearer to 0.
    level = jnp.sign(x) * rounded(draw, position(x, scale, levels), rounding)
    return Quantized(scale, level.astype(jnp.int32))


def dequantize(
    quantized: Quantized, *, levels: Any, rounding: Rounding = "stochastic"
) -> jax.Array:
    """Computes the values of the levels, `norm * level / s`.

    Args:
      quantized: `[...]`, a tensor's levels and norm.
      levels: s.
      rounding: of the sender; after floor_middle, the middles of intervals.

    Returns:
      `[...]` float32.
    """
    check_choice("rounding", rounding, Rounding)
    at = rebuilt(quantized.level, levels, rounding)
    # Divided first: level s is then the norm itself, or an ulp from it where a compiled
    # program multiplies by 1 / s.
    return quantized.norm * (at / jnp.asarray(levels, jnp.float32))


def quantize_tree(
    key: jax.Array,
    tree: Any,
    *,
    levels: Any,
    norm: Norm,
    rounding: Rounding = "stochastic",
) -> Any:
    """Quantises each tensor of a tree with its own norm.

    Args:
      key: a key used here only.
      tree: leaves `[...]` float32.
      levels: s, or a tree of them, one for each tensor; may be traced.
      norm: "max" or "l2".
      rounding: of each entry.

    Returns:
      A `Quantized` in place of each leaf.
    """
    check_choice("rounding", rounding, Rounding)
    check_choice("norm", norm, Norm)
    return jax.tree.map(
        partial(_quantize, norm=norm, rounding=rounding),
        draws.uniform_tree(key, tree),
        tree,
        jax.tree.broadcast(levels, tree),
    )


def reconstruct_tree(
    key: jax.Array,
    tree: Any,
    *,
    levels: Any,
    norm: Norm = "max",
    exact: Any = False,
    rounding: Rounding = "stochastic",
) -> Any:
    """Applies Q_b to each tensor of a tree: quantises and dequantises it.

    Args:
      key: a key used here only.
      tree: leaves `[...]` float32.
      levels: s, or a tree of them, one for each tensor; may be traced.
      norm: "max" or "l2".
      exact: [] bool or a tree of them, may be traced: return the tensors unchanged, bit
        for bit.
      rounding: of each entry.

    Returns:
      The same structure.
    """
    check_choice("norm", norm, Norm)

    def reconstruct_leaf(x, quantized, levels, exact):
        value = dequantize(quantized, levels=levels, rounding=rounding)
        return jnp.where(exact, x, value)

    return jax.tree.map(
        reconstruct_leaf,
        tree,
        quantize_tree(key, tree, levels=levels, norm=norm, rounding=rounding),
        *(jax.tree.broadcast(each, tree) for each in (levels, exact)),
    )
