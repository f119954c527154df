"""Upload of one client: its displacement, quantised layer by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.coding import MAX_BITS
from fedjax_sl.compression.layers import from_units, to_units
from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    Quantized,
    dequantize,
    levels_from_bits,
    quantize_tree,
)
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers, send_layers, stacked
from fedjax_sl.compressors.qsgd import narrowest_wire
from fedjax_sl.federation.combine import clipped
from fedjax_sl.federation.privacy import gaussian_mechanism
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.traffic import Layers, coded_link


class Upload(NamedTuple):
    """A client's parameters as the server rebuilds them, and the bits of its messages.

    Attributes:
      params: theta_k, parameters of the whole network.
      messages: of the layers that are sent, [] each.
      residual: what they left out; None without feedback.
    """

    params: Any
    messages: Link
    residual: Any


def privatized(config: FedLPQConfig, key: jax.Array, whole: Any, trained: Any) -> Any:
    """Applies the Gaussian mechanism to a client's variables.

    Args:
      config: C and z; at z = 0 the variables are as trained, bit for bit.
      key: of this client and round, used here only.
      whole: variables that the client received.
      trained: its variables after its local epochs.

    Returns:
      As `trained`.
    """
    if config.noise_multiplier is None:
        return trained
    noise = jnp.asarray(config.noise_multiplier)
    # Norm statistics get noise, too: they are sent, and depend on the client's data.
    update = gaussian_mechanism(
        key,
        jax.tree.map(jnp.subtract, trained, whole),
        clip_norm=config.clip_norm,
        noise_multiplier=noise,
    )
    return jax.tree.map(
        # At z = 0 as it is: old + (new - old) may differ from new in the last bit.
        lambda new, old, change: jnp.where(noise > 0, old + change, new),
        trained,
        whole,
        update,
    )


def _clip_norm(config: FedLPQConfig) -> Any:
    """Returns C, or inf if the update was clipped before noise was added to it."""
    clip, noise = config.clip_norm, config.noise_multiplier
    if clip is None or noise is None:
        return clip
    # The noise multiplier may be traced; a second clipping would shrink the noise.
    return jnp.where(jnp.asarray(noise) > 0, jnp.inf, clip)


def _coded_bits(bits: jax.Array) -> jax.Array:
    """Limits b to the range of coded messages."""
    # At 32 bits nothing is coded, but b may be traced: the code runs all the same.
    return jnp.minimum(bits, MAX_BITS)


def displacement(config: FedLPQConfig, start: Any, trained: Any) -> dict[str, Any]:
    """Computes g_k = start - trained, `{layer: [M_l]}`, clipped if configured."""
    before = to_units(start, by=config.unit)
    after = to_units(trained, by=config.unit)
    return clipped(jax.tree.map(jnp.subtract, before, after), _clip_norm(config))


def quantized_layers(
    config: FedLPQConfig, key: jax.Array, gap: dict[str, Any], bits: jax.Array
) -> dict[str, Quantized]:
    """Quantises each layer, Q(g_k^l), with 2^b levels between 0 and its 2-norm.

    Args:
      config: how entries are rounded.
      key: of this client and round.
      gap: `{layer: [M_l]}`, as from `displacement`.
      bits: [] b.

    Returns:
      `{layer: Quantized}`.
    """
    # As QSGD counts: 4 bits are 2^4 levels, and the sign is sent apart.
    levels = levels_from_bits(_coded_bits(bits), signed=False)
    return quantize_tree(key, gap, levels=levels, norm="l2", rounding=config.rounding)


class Sender(NamedTuple):
    """What a client's messages depend on, besides its displacement.

    Attributes:
      key: of this client and round.
      bits: [] b.
      updates: compressor, in place of b.
      levels: [] q_k of that compressor; None as its bits say.
      residual: state of the compressor, of each layer; None if it keeps none.
      sent: `[U]` bool, the layers that it sends.
    """

    key: jax.Array
    bits: jax.Array
    updates: CompressorConfig
    levels: jax.Array | None
    residual: Any
    sent: jax.Array


def upload(
    config: FedLPQConfig, sender: Sender, start: Any, trained: Any, *, layers: Layers
) -> Upload:
    """Uploads theta_k^l = start^l - Q(g_k^l) with g_k = start - trained, by layer.

    That the whole local displacement is quantised is reconstructed.

    Args:
      config: unit of a layer, and code.
      sender: the client.
      start: parameters that the client received.
      trained: its parameters after its local epochs.
      layers: those of the whole network.

    Returns:
      An `Upload`. Without a compressor, parameters are as if every layer were sent, and
      at 32 bits as trained, bit for bit, unless the displacement is clipped.
    """
    # qsgd by the 2-norm in an Elias code is the method: tests/fedlpq/test_updates.py.
    if sender.updates.active:
        return _compressed(config, sender, start, trained, layers=layers)
    return _quantized(config, sender, start, trained, layers=layers)


def _quantized(
    config: FedLPQConfig, sender: Sender, start: Any, trained: Any, *, layers: Layers
) -> Upload:
    """Uploads by the quantiser and its code, every layer as if it were sent."""
    exact, b = sender.bits >= FLOAT_BITS, _coded_bits(sender.bits)
    levels = levels_from_bits(b, signed=False)
    before = to_units(start, by=config.unit)
    after = to_units(trained, by=config.unit)
    gap = displacement(config, start, trained)
    # start - (start - trained) may differ from trained in the last bit, so it replaces
    # the trained parameters only where the displacement was clipped.
    if config.clip_norm is not None:
        after = jax.tree.map(jnp.subtract, before, gap)
    # Of every layer, as flags are traced; the mean leaves out what is not sent.
    quantized = quantized_layers(config, sender.key, gap, sender.bits)

    def arriving(name, layer):
        gap = dequantize(layer, levels=levels, rounding=config.rounding)
        # Subtracted: a displacement is start - trained, of the sign of a gradient.
        return jnp.where(exact, after[name], before[name] - gap)

    rebuilt = {name: arriving(name, layer) for name, layer in quantized.items()}
    wire = narrowest_wire(levels, coder=config.code)
    lengths = {
        name: wire.count(layer, jnp.ones(layer.level.shape, bool))
        for name, layer in quantized.items()
    }
    # A layer with statistics but without parameters has no message.
    none = Link.float32(jnp.zeros_like(b))
    every = stacked([lengths.get(name, none) for name in layers.names])
    messages = coded_link(layers, sender.bits, sent=sender.sent, messages=every)
    params = from_units(rebuilt, trained, by=config.unit)
    return Upload(params, messages, sender.residual)


def _compressed(
    config: FedLPQConfig, sender: Sender, start: Any, trained: Any, *, layers: Layers
) -> Upload:
    """Uploads by a compressor: layers that are not sent stay as received."""
    before, gap = to_units(start, by=config.unit), displacement(config, start, trained)
    how = sender.updates.compressor(sender.levels)
    flags = dict(zip(layers.names, sender.sent, strict=True))
    # The residual of a layer that is not sent stays as it is, too.
    sent = {name: jnp.full(x.shape, flags[name]) for name, x in gap.items()}
    states = sender.residual or init_layers(how, gap)
    received = send_layers(how, sender.key, gap, sent, states=states)
    rebuilt = jax.tree.map(jnp.subtract, before, received.values)
    params = from_units(rebuilt, trained, by=config.unit)
    residual = None if sender.residual is None else received.state
    return Upload(params, received.bits, residual)
