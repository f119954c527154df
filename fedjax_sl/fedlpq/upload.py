"""What one client sends: its displacement, quantised layer by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compression.coding import MAX_BITS, message_bits
from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    dequantize,
    levels_from_bits,
    quantize_tree,
)
from fedjax_sl.compression.units import from_units, to_units
from fedjax_sl.federation.combine import clipped
from fedjax_sl.fedlpq.config import FedLPQConfig


class Upload(NamedTuple):
    """What the server rebuilds from a client's messages, and what they took.

    Attributes:
      params: theta_k, parameters of the whole network.
      message_bits: bits of each layer's message, by name.
    """

    params: Any
    message_bits: dict[str, jax.Array]


def upload(
    config: FedLPQConfig, key: jax.Array, start: Any, trained: Any, bits: jax.Array
) -> Upload:
    """theta_k^l = start^l - Q(g_k^l) with g_k = start - trained, layer by layer.

    That the whole local displacement is quantised is reconstructed.

    Args:
      config: what a layer is, and which code is used.
      key: of this client and round.
      start: parameters that the client had received.
      trained: its parameters after its local epochs.
      bits: [] b; at 32 the trained parameters arrive bit for bit as they are, unless
        the displacement is clipped.

    Returns:
      An `Upload`, as if every layer were sent.
    """
    exact = bits >= FLOAT_BITS
    b = jnp.minimum(bits, MAX_BITS)
    levels = levels_from_bits(b, signed=False)
    before = to_units(start, by=config.unit)
    after = to_units(trained, by=config.unit)
    displacement = clipped(jax.tree.map(jnp.subtract, before, after), config.clip_norm)
    if config.clip_norm is not None:
        after = jax.tree.map(jnp.subtract, before, displacement)
    quantized = quantize_tree(key, displacement, levels=levels, norm="l2")
    rebuilt = {
        name: jnp.where(
            exact, after[name], before[name] - dequantize(one, levels=levels)
        )
        for name, one in quantized.items()
    }
    lengths = {
        name: message_bits(one, bits=b, code=config.code)
        for name, one in quantized.items()
    }
    return Upload(from_units(rebuilt, trained, by=config.unit), lengths)
