"""Bounds on the traffic and work of a round of FedLP-Q, computed before a run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.code_length import code_length_bound
from fedjax_sl.compression.coding import MAX_BITS
from fedjax_sl.compressors.per_layer import stacked, total
from fedjax_sl.compressors.qsgd import narrowest_wire
from fedjax_sl.federation.levels import largest
from fedjax_sl.fedlpq.compute import work
from fedjax_sl.fedlpq.config import FedLPQConfig, client_configs
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.fedlpq.traffic import Counts, Layers, coded_link, layers_of, links
from fedjax_sl.traffic import Record, recorded


def _message(config: FedLPQConfig, size: int, bits: int) -> Link:
    """Bounds the message of a layer of so many elements."""
    # At 32 bits nothing is coded, and the bound is not used.
    bits = min(bits, MAX_BITS)
    most = narrowest_wire(2**bits, coder=config.code).most(size, size)
    # A range code is never longer than levels of fixed width; nothing less is known.
    if config.code == "range" or not size:
        return most
    # The mean index is at most 2^b / sqrt(M); rounding adds no more than 1 to it.
    mean = 2**bits / math.sqrt(size) + 1
    length = math.ceil(code_length_bound(size, mean, bits=bits, code=config.code))
    return most._replace(more=length - most.side)


def _longest(config: FedLPQConfig, layers: Layers, everyone: jax.Array) -> Link:
    """The longest messages of every layer, of each client `[N]`."""
    per_client = client_configs(config, everyone)
    if config.updates.active:
        sizes = [int(size) for size in layers.params if size]

        def of_client(own, level):
            wire = own.compressor(level).wire
            return total([wire.most(size, size) for size in sizes])

        levels = largest(config.levels, per_client.updates, config.cohort_size)
        return jax.vmap(of_client)(per_client.updates, levels)
    bits = np.asarray(per_client.bits).tolist()
    known = {
        # By number of bits: classes of devices are few, and clients many.
        b: stacked([_message(config, int(size), b) for size in layers.params])
        for b in set(bits)
    }
    return coded_link(
        layers,
        per_client.bits,
        sent=jnp.ones((len(everyone), len(layers.names)), bool),
        messages=stacked([known[b] for b in bits]),
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
