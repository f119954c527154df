"""How many bits the numbers of each tensor take: as configured, or as it asks for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import kept_in_each
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.quantizer import MOST_BITS, levels_of, span


FEWEST = 2
ALLOCATION_BITS = 5
"""Bits that say how wide a tensor's numbers are, from 2 to 32."""


class BitAllocation(NamedTuple):
    """Of the numbers in one client's message.

    Attributes:
      least: [] int32, bits of a number of the narrowest tensor.
      more: [] int32, bits that the wider tensors take beyond that, all together.
    """

    least: jax.Array
    more: jax.Array


def tensor_bits(config: FedSLConfig, tree: Any, bits: jax.Array) -> Any:
    """b_l of each tensor: b, or the fewest with which it keeps the error allowed.

    A tensor of M entries other than 0, its span Lambda cut into s intervals, has an
    expected squared error of at most `M Lambda^2 / (4 s^2)`. The fewest bits, from 2 to
    b, are taken with which that is at most `epsilon |v|^2` (reconstructed). A tensor
    whose largest entry stands out asks for more of them than one of even entries.

    Args:
      config: epsilon, None for b throughout; norm and levels of the quantiser.
      tree: leaves `[...]`, what is to be quantised.
      bits: [] b; 32 leaves every tensor as it is.

    Returns:
      [] b for all, or a tree of [] int32.
    """
    if config.quantizer_error is None:
        return bits
    candidates = jnp.arange(FEWEST, MOST_BITS)
    levels = levels_of(config, candidates).astype(jnp.float32)

    def one(x):
        entries = x.size if config.quantizer_norm == "range" else jnp.count_nonzero(x)
        error = entries * (span(config, x) / levels) ** 2 / 4
        too_much = error > config.quantizer_error * (x * x).sum()
        wanted = jnp.minimum(FEWEST + too_much.sum(), bits)
        return jnp.where(bits >= FLOAT_BITS, bits, wanted).astype(jnp.int32)

    return jax.tree.map(one, tree)


def allocated(bits: Any, mask: Any, tree: Any) -> BitAllocation:
    """What the kept entries of a tree take.

    Args:
      bits: as from `tensor_bits`.
      mask: m_k.
      tree: leaves `[...]`.

    Returns:
      The client's `BitAllocation`.
    """
    if isinstance(bits, jax.Array):
        return BitAllocation(bits, jnp.zeros_like(bits))
    each = jnp.stack(jax.tree.leaves(bits))
    entries = jnp.stack(jax.tree.leaves(kept_in_each(mask, tree)))
    least = each.min()
    return BitAllocation(least, ((each - least) * entries).sum())
