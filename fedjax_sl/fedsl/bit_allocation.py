"""Bit allocation: the bits per value of each tensor, fixed or set by an error bound."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import kept_in_each
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compression.rounding import worst_square
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.quantizer import MOST_BITS, levels_of, span


FEWEST = 2
ALLOCATION_BITS = 5
"""Side bits that encode the bits per value of a tensor, from 2 to 32."""


class BitAllocation(NamedTuple):
    """Bits of the values in one client's message: `least` per value, plus `more`.

    Attributes:
      least: [] int32, fewest bits per value among the tensors.
      more: [] int32, total bits of the other tensors beyond `least` per value.
    """

    least: jax.Array
    more: jax.Array


def tensor_bits(config: FedSLConfig, tree: Any, bits: jax.Array) -> Any:
    """Chooses b_l for each tensor: b, or the fewest bits that meet the error bound.

    A tensor with M nonzero entries and its span Lambda cut into s intervals has an
    expected squared error of at most `M Lambda^2 / (4 s^2)`, or four times that if it
    is rounded down. b_l is the smallest number
    of bits, from 2 to b, for which that is at most `epsilon |v|^2` (reconstructed). A
    tensor with an outlier needs more bits than one with even entries.

    Args:
      config: epsilon, None for b throughout; norm and levels of the quantiser.
      tree: leaves `[...]`, the tensors to quantise.
      bits: [] b; 32 leaves every tensor unchanged.

    Returns:
      [] b for all, or a tree of [] int32.
    """
    if config.quantizer_error is None:
        return bits
    # Not MOST_BITS itself: what misses with all of these takes it, up to b.
    candidates = jnp.arange(FEWEST, MOST_BITS)
    levels = levels_of(config, candidates).astype(jnp.float32)

    def fewest_bits(x):
        # Zeros are exact under a norm, but not on a range.
        entries = x.size if config.quantizer_norm == "range" else jnp.count_nonzero(x)
        error = entries * (span(config, x) / levels) ** 2
        error *= worst_square(config.rounding)
        # The error falls with the bits, so counting the misses finds the first hit.
        too_much = error > config.quantizer_error * (x * x).sum()
        wanted = jnp.minimum(FEWEST + too_much.sum(), bits)
        # At 32 bits nothing is quantised: an error bound must not start to.
        return jnp.where(bits >= FLOAT_BITS, bits, wanted).astype(jnp.int32)

    return jax.tree.map(fewest_bits, tree)


def allocated(bits: Any, mask: Any, tree: Any) -> BitAllocation:
    """Sums the bits of the kept entries of a tree.

    Args:
      bits: as from `tensor_bits`.
      mask: m_k.
      tree: leaves `[...]`.

    Returns:
      The client's `BitAllocation`.
    """
    # A tree of bits exists only under an error bound; one b is common to all.
    if isinstance(bits, jax.Array):
        return BitAllocation(bits, jnp.zeros_like(bits))
    each = jnp.stack(jax.tree.leaves(bits))
    entries = jnp.stack(jax.tree.leaves(kept_in_each(mask, tree)))
    # The total may exceed int32: the common part is multiplied on the host.
    least = each.min()
    return BitAllocation(least, ((each - least) * entries).sum())
