"""The quantiser Q_b that the configuration chooses."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    levels_from_bits,
    reconstruct_range_tree,
    reconstruct_tree,
    variance_bound,
)
from fedjax_sl.fedsl.config import FedSLConfig


def _levels(config: FedSLConfig, bits: jax.Array) -> jax.Array:
    bits = jnp.minimum(bits, FLOAT_BITS - 2)
    if config.quantizer_levels == "2^(b-1)-1":
        return levels_from_bits(bits, signed=True)
    all_levels = levels_from_bits(bits, signed=False)
    return all_levels if config.quantizer_levels == "2^b" else all_levels - 1


def scales(config: FedSLConfig) -> int:
    """Float32 numbers that go with each quantised tensor."""
    return 2 if config.quantizer_norm == "range" else 1


def quantized(config: FedSLConfig, key: jax.Array, tree: Any, bits: jax.Array) -> Any:
    """Q_b of one client's tensors, each with its own norm.

    Args:
      config: norm and number of levels.
      key: a key used here only.
      tree: leaves `[...]`.
      bits: [] b; 32 leaves the tree as it is, bit for bit.

    Returns:
      The same structure.
    """
    exact = bits >= FLOAT_BITS
    if config.quantizer_norm == "range":
        levels = levels_from_bits(jnp.minimum(bits, FLOAT_BITS - 2), signed=False) - 1
        return reconstruct_range_tree(key, tree, levels=levels, exact=exact)
    return reconstruct_tree(
        key,
        tree,
        levels=_levels(config, bits),
        norm=config.quantizer_norm,
        exact=exact,
    )


def variance_factor(config: FedSLConfig, sizes: Sequence[int], bits: int) -> float:
    """q_b with E|Q_b(v) - v|^2 <= q_b |v|^2 over tensors of these sizes, 0 at 32 bits.

    In the range form the step is that of (2^b - 1) / 2 levels below the largest entry.
    """
    if bits >= FLOAT_BITS:
        return 0.0
    levels = (2**bits - 1) / 2
    if config.quantizer_norm != "range":
        levels = float(_levels(config, jnp.asarray(bits)))
    return max(float(variance_bound(m, levels=levels, norm="max")) for m in sizes)
