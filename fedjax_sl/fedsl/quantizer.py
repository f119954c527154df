"""The quantiser Q_b that the configuration chooses."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    levels_from_bits,
    norm_of,
    reconstruct_range_tree,
    reconstruct_tree,
    variance_bound,
)
from fedjax_sl.fedsl.config import FedSLConfig


def levels_of(config: FedSLConfig, bits: jax.Array) -> jax.Array:
    """s, the intervals that b bits cut the span of a tensor into."""
    bits = jnp.minimum(bits, FLOAT_BITS - 2)
    by_range = config.quantizer_norm == "range"
    if config.quantizer_levels == "2^(b-1)-1" and not by_range:
        return levels_from_bits(bits, signed=True)
    all_levels = levels_from_bits(bits, signed=False)
    whole = config.quantizer_levels == "2^b" and not by_range
    return all_levels if whole else all_levels - 1


def span(config: FedSLConfig, x: jax.Array) -> jax.Array:
    """Lambda, what is cut into intervals: largest magnitude, 2-norm or range, []."""
    if config.quantizer_norm == "range":
        return x.max() - x.min()
    return norm_of(x, config.quantizer_norm)


def scales(config: FedSLConfig) -> int:
    """Float32 numbers that go with each quantised tensor."""
    return 2 if config.quantizer_norm == "range" else 1


def quantized(config: FedSLConfig, key: jax.Array, tree: Any, bits: Any) -> Any:
    """Q_b of one client's tensors, each with its own norm.

    Args:
      config: norm and number of levels.
      key: a key used here only.
      tree: leaves `[...]`.
      bits: [] b, or a tree of them, one for each tensor; 32 leaves a tensor as it is,
        bit for bit.

    Returns:
      The same structure.
    """
    exact = jax.tree.map(lambda b: b >= FLOAT_BITS, bits)
    levels = jax.tree.map(partial(levels_of, config), bits)
    if config.quantizer_norm == "range":
        return reconstruct_range_tree(key, tree, levels=levels, exact=exact)
    return reconstruct_tree(
        key, tree, levels=levels, norm=config.quantizer_norm, exact=exact
    )


def variance_factor(config: FedSLConfig, sizes: Sequence[int], bits: int) -> float:
    """q_b with E|Q_b(v) - v|^2 <= q_b |v|^2 over tensors of these sizes, 0 at 32 bits.

    A tensor that takes fewer bits by its error adds at most epsilon instead.
    In the range form the step is that of (2^b - 1) / 2 levels below the largest entry.
    """
    if bits >= FLOAT_BITS:
        return 0.0
    levels = (2**bits - 1) / 2
    if config.quantizer_norm != "range":
        levels = float(levels_of(config, jnp.asarray(bits)))
    fixed = max(float(variance_bound(m, levels=levels, norm="max")) for m in sizes)
    return max(fixed, config.quantizer_error or 0.0)
