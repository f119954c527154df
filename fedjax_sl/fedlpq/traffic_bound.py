"""Bounds on the traffic and work of a round of FedLP-Q, computed before a run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.code_length import code_length_bound
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.per_layer import stacked, total
from fedjax_sl.federation.levels import largest
from fedjax_sl.fedlpq.compute import work
from fedjax_sl.fedlpq.config import FedLPQConfig, client_configs
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.fedlpq.traffic import Counts, Layers, coded_link, layers_of, links
from fedjax_sl.traffic import Record, recorded


def _message_bits(config: FedLPQConfig, layers: Layers, bits: int) -> list[int]:
    """Bounds the message bits of each layer."""
    # The mean index is at most 2^b / sqrt(M); rounding adds no more than 1 to it.
    if bits >= FLOAT_BITS:
        return [0] * len(layers.params)
    lengths = [
        code_length_bound(
            int(size), 2**bits / math.sqrt(size) + 1, bits=bits, code=config.code
        )
        if size
        else 0
        for size in layers.params
    ]
    return [math.ceil(length) for length in lengths]


def _longest(config: FedLPQConfig, layers: Layers, everyone: jax.Array) -> Link:
    """The longest messages of every layer, of each client `[N]`."""
    per_client = client_configs(config, everyone)
    if config.updates.active:
        sizes = [int(size) for size in layers.params if size]

        def of_client(own):
            level = largest(config.levels, own, config.cohort_size)
            wire = own.compressor(level).wire
            return total([wire.most(size, size) for size in sizes])

        return jax.vmap(of_client)(per_client.updates)
    bits = np.asarray(per_client.bits)
    known = {b: _message_bits(config, layers, b) for b in set(bits.tolist())}
    return coded_link(
        config,
        layers,
        per_client.bits,
        sent=jnp.ones((len(everyone), len(layers.names)), bool),
        message_bits=jnp.array([known[b] for b in bits.tolist()], jnp.int32),
    )


def _longest_down(config: FedLPQConfig, layers: Layers) -> Link | None:
    """The longest message of each layer with parameters, `[L]`."""
    if not config.models.active:
        return None
    most = config.models.compressor().wire.most
    return stacked([most(int(size), int(size)) for size in layers.params if size])


def most(
    model: nn.Module,
    input_shape: tuple[int, ...],
    config: FedLPQConfig,
    num_examples: np.ndarray,
) -> Record:
    """Bounds what each client sends and computes in any round.

    Args:
      model: the whole network.
      input_shape: `(H, W, Ch)`.
      config: the configuration.
      num_examples: `[N]` that each client owns.

    Returns:
      A record of one round without its first axis, `[N]` each.
    """
    layers = layers_of([template(model, input_shape)], config.unit)
    everyone = jnp.arange(len(num_examples))
    every_layer = jnp.ones((len(everyone), len(layers.names)), bool)
    counts = Counts(
        present=jnp.ones_like(everyone),
        owned=every_layer,
        sent=every_layer,
        messages=_longest(config, layers, everyone),
        down=_longest_down(config, layers),
    )
    examples = jnp.asarray(num_examples * config.local_epochs)
    done = work([model], input_shape, jnp.zeros_like(everyone), examples)
    counted, done = jax.device_get((links(config, layers, counts), done))
    return recorded(everyone, counted, done)
