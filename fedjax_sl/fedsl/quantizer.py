"""The quantiser Q_b of a configuration."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    norm_of,
    reconstruct_tree,
)
from fedjax_sl.compression.quantization_error import variance_bound
from fedjax_sl.compression.range_quantization import reconstruct_range_tree
from fedjax_sl.fedsl.config import FedSLConfig


MOST_BITS = FLOAT_BITS - 2
"""More bits than this do not refine the levels, which are int32."""

EXACT_BITS = 24
"""float32 represents integers of up to this many bits exactly."""


def levels_of(config: FedSLConfig, bits: jax.Array) -> jax.Array:
    """Returns s, the number of intervals into which b bits cut a tensor's span.

    If float32 cannot represent 2^n - 1, s is the next float32 below it.
    """
    by_range = config.quantizer_norm == "range"
    signed = config.quantizer_levels == "2^(b-1)-1" and not by_range
    power = jnp.minimum(jnp.asarray(bits, jnp.int32), MOST_BITS) - signed
    if config.quantizer_levels == "2^b" and not by_range:
        return jnp.left_shift(1, power)
    # 2^n - 1 would round up to 2^n in float32, one value too many for the bits.
    finest = jnp.left_shift(1, jnp.maximum(power - EXACT_BITS, 0))
    return jnp.left_shift(1, power) - finest


def coded_bits(config: FedSLConfig, bits: jax.Array) -> jax.Array:
    """Returns the bits of one quantised value on a link, `[...]` as `bits`.

    Signed levels in [-s, s] are 2 s + 1 values and take ceil(log2(2 s + 1)) bits: b for
    s = 2^(b-1) - 1, b + 1 for 2^b - 1 and b + 2 for 2^b. On a range there is no sign:
    s + 1 = 2^b values, b bits. 32 bits are float32.
    """
    # s = 2^b has 2^(b+1) + 1 signed values, one too many for b + 1 bits.
    extra = {"2^(b-1)-1": 0, "2^b-1": 1, "2^b": 2}[config.quantizer_levels]
    if config.quantizer_norm == "range":
        extra = 0
    # Levels are no finer beyond MOST_BITS, so an encoder emits no more bits.
    return jnp.where(
        bits >= FLOAT_BITS, FLOAT_BITS, jnp.minimum(bits, MOST_BITS) + extra
    )


def span(config: FedSLConfig, x: jax.Array) -> jax.Array:
    """Returns Lambda, the span cut into intervals: max magnitude, 2-norm or range."""
    if config.quantizer_norm == "range":
        return x.max() - x.min()
    return norm_of(x, config.quantizer_norm)


def scales(config: FedSLConfig) -> int:
    """Returns how many float32 scales go with each quantised tensor."""
    # A range is sent as its two ends.
    return 2 if config.quantizer_norm == "range" else 1


def norm_bits(config: FedSLConfig, tensors: int, bits: jax.Array) -> jax.Array:
    """Returns the side bits of the float32 scales of quantised tensors."""
    return jnp.where(bits < FLOAT_BITS, FLOAT_BITS * scales(config) * tensors, 0)


def quantized(config: FedSLConfig, key: jax.Array, tree: Any, bits: Any) -> Any:
    """Applies Q_b to one client's tensors, each with its own norm.

    Args:
      config: norm and number of levels.
      key: a key used here only.
      tree: leaves `[...]`.
      bits: [] b, or a tree of them, one for each tensor; 32 leaves a tensor unchanged,
        bit for bit.

    Returns:
      The same structure.
    """
    # Bits may be traced, so the quantiser always runs and `exact` selects.
    exact = jax.tree.map(lambda b: b >= FLOAT_BITS, bits)
    levels = jax.tree.map(partial(levels_of, config), bits)
    how = {"levels": levels, "exact": exact, "rounding": config.rounding}
    if config.quantizer_norm == "range":
        return reconstruct_range_tree(key, tree, **how)
    return reconstruct_tree(key, tree, norm=config.quantizer_norm, **how)


def variance_factor(config: FedSLConfig, sizes: Sequence[int], bits: int) -> float:
    """Bounds the variance: q_b with E|Q_b(v) - v|^2 <= q_b |v|^2, 0 at 32 bits.

    Under a norm q_b is `min(M / (4 s^2), sqrt(M) / s)`, see `variance_bound`. On a
    range zeros have an error too, and the bound is `(M - 2) / (2 s^2)`: the smallest
    and the largest entry are levels, each other entry errs by at most
    (high - low)^2 / (4 s^2), and (high - low)^2 <= 2 (high^2 + low^2). Entries h, -h
    and zeros half-way between two levels attain it.

    A tensor whose bits follow from `quantizer_error` has at most epsilon instead.
    """
    if bits >= FLOAT_BITS:
        return 0.0
    levels = int(levels_of(config, jnp.asarray(bits)))
    # The largest factor holds for the sum over tensors, each with its own norm.
    if config.quantizer_norm == "range":
        fixed = max(max(size - 2, 0) / (2 * levels**2) for size in sizes)
    else:
        # For the 2-norm the bound is the same.
        fixed = max(float(variance_bound(m, levels=levels, norm="max")) for m in sizes)
    # Fewer than b bits err by epsilon; where b are too few, by what b bits allow.
    return max(fixed, config.quantizer_error or 0.0)
