"""What one client sends: its displacement, quantised layer by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compression.coding import MAX_BITS, message_bits
from fedjax_sl.compression.layers import from_units, to_units
from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    Quantized,
    dequantize,
    levels_from_bits,
    quantize_tree,
)
from fedjax_sl.federation.combine import clipped
from fedjax_sl.federation.privacy import gaussian_mechanism
from fedjax_sl.fedlpq.config import FedLPQConfig


class Upload(NamedTuple):
    """What the server rebuilds from a client's messages, and what they took.

    Attributes:
      params: theta_k, parameters of the whole network.
      message_bits: bits of each layer's message, by name.
    """

    params: Any
    message_bits: dict[str, jax.Array]


class Messages(NamedTuple):
    """What a client sends, before it is coded; leaves `[K, ...]` of a cohort.

    Attributes:
      layers: each layer quantised, by name, sent this time or not.
      owned: [] bool by name, whether the client has the layer at all.
      bits: [] b; at 32 float32 numbers go up instead.
    """

    layers: dict[str, Quantized]
    owned: dict[str, jax.Array]
    bits: jax.Array


def privatized(config: FedLPQConfig, key: jax.Array, whole: Any, trained: Any) -> Any:
    """A client's variables, noise added to all that it sends of them.

    Statistics of norms are part of the update: they are sent, and depend on the data.

    Args:
      config: C and z; at 0 the variables are as trained, bit for bit.
      key: of this client and round, used here only.
      whole: variables that the client had received.
      trained: its variables after its local epochs.

    Returns:
      As `trained`.
    """
    if config.noise_multiplier is None:
        return trained
    noise = jnp.asarray(config.noise_multiplier)
    update = gaussian_mechanism(
        key,
        jax.tree.map(jnp.subtract, trained, whole),
        clip_norm=config.clip_norm,
        noise_multiplier=noise,
    )
    return jax.tree.map(
        lambda new, old, change: jnp.where(noise > 0, old + change, new),
        trained,
        whole,
        update,
    )


def _clip_norm(config: FedLPQConfig) -> Any:
    """C, unless the update was clipped before noise was added to it."""
    clip, noise = config.clip_norm, config.noise_multiplier
    if clip is None or noise is None:
        return clip
    return jnp.where(jnp.asarray(noise) > 0, jnp.inf, clip)


def _coded_bits(bits: jax.Array) -> jax.Array:
    """The b of messages; some number in range where there are none."""
    return jnp.minimum(bits, MAX_BITS)


def displacement(config: FedLPQConfig, start: Any, trained: Any) -> dict[str, Any]:
    """g_k = start - trained, `{layer: [M_l]}`, clipped if asked for."""
    before = to_units(start, by=config.unit)
    after = to_units(trained, by=config.unit)
    return clipped(jax.tree.map(jnp.subtract, before, after), _clip_norm(config))


def quantized_layers(
    key: jax.Array, gap: dict[str, Any], bits: jax.Array
) -> dict[str, Quantized]:
    """Q(g_k^l) of each layer, 2^b levels between 0 and its 2-norm.

    Args:
      key: of this client and round.
      gap: `{layer: [M_l]}`, as from `displacement`.
      bits: [] b.

    Returns:
      `{layer: Quantized}`.
    """
    levels = levels_from_bits(_coded_bits(bits), signed=False)
    return quantize_tree(key, gap, levels=levels, norm="l2")


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
    b = _coded_bits(bits)
    levels = levels_from_bits(b, signed=False)
    before = to_units(start, by=config.unit)
    after = to_units(trained, by=config.unit)
    gap = displacement(config, start, trained)
    if config.clip_norm is not None:
        after = jax.tree.map(jnp.subtract, before, gap)
    quantized = quantized_layers(key, gap, bits)
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
