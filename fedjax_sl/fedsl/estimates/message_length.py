"""How long messages are before a run: typically, and at most."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import Mask, kept
from fedjax_sl.compressors import send
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers, send_layers, total
from fedjax_sl.federation.aggregation import choose
from fedjax_sl.federation.levels import common_levels, largest
from fedjax_sl.federation.model_down import send_down
from fedjax_sl.fedsl.bit_allocation import BitAllocation
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.message import (
    entries_of,
    gradient_is_message,
    number_bits,
    quantized_link,
)
from fedjax_sl.fedsl.second_cut import Behind


class AtCut(NamedTuple):
    """Messages at the cut, `[K]`, as in `traffic.Counts`."""

    activations: Link
    returned: jax.Array
    back: Link | None


def _longest(how: CompressorConfig, entries: jax.Array, size: int) -> Link:
    """Bounds the messages of so many of the entries of an array, `[N]`."""
    return jax.vmap(lambda own, n: own.compressor().wire.most(n, size))(how, entries)


def typical_at_cut(
    config: FedSLConfig,
    per_client: ClientConfigs,
    entries: jax.Array,
    shape: tuple[int, ...],
) -> AtCut:
    """Counts what is sent at the cut of so many activations of each client.

    What a compressor makes of an array depends on its values: here on a normal
    distribution, of activations only half of it, as after a ReLU.

    Args:
      config: the configuration.
      per_client: `[K]` each.
      entries: `[K]` int32.
      shape: of the activations of a mini-batch.

    Returns:
      An `AtCut`.
    """

    def of_client(own, entries):
        mask = (jnp.arange(math.prod(shape)) < entries).reshape(shape)
        # Fixed keys: an estimate differs by configuration alone, not from call to call.
        draws = jax.random.normal(jax.random.key(0), shape)
        keys = jax.random.split(jax.random.key(1))
        up = send(own.activations.compressor(), keys[0], jax.nn.relu(draws), mask)
        down = send(own.cut_gradients.compressor(), keys[1], draws, up.sent)
        return AtCut(up.bits, up.sent.sum(dtype=jnp.int32), down.bits)

    if not config.compressed_cut:
        return AtCut(Link.float32(entries), entries, None)
    # One after another: all batches at once could take more than a machine has.
    found = jax.lax.map(lambda client: of_client(*client), (per_client, entries))
    return found if config.cut_gradients.active else found._replace(back=None)


def typical_behind(
    config: FedSLConfig,
    per_client: ClientConfigs,
    examples: jax.Array,
    shape: tuple[int, ...] | None,
) -> Behind:
    """Counts what is sent at a second cut, on the arrays of `typical_at_cut`.

    Args:
      config: the configuration.
      per_client: `[K]` each.
      examples: `[K]` int32.
      shape: of the features of a mini-batch; None of a network without such a cut.

    Returns:
      A `Behind`.
    """
    if shape is None or not config.compressed_behind:
        return Behind(None, None)

    def of_client(own, examples):
        real = jnp.arange(shape[0]) < examples
        mask = jnp.broadcast_to(real.reshape(-1, *[1] * (len(shape) - 1)), shape)
        draws = jax.random.normal(jax.random.key(0), shape)
        keys = jax.random.split(jax.random.key(1))
        down = send(own.features.compressor(), keys[0], jax.nn.relu(draws), mask)
        up = send(own.feature_gradients.compressor(), keys[1], draws, down.sent)
        return Behind(down.bits, up.bits)

    return jax.lax.map(lambda client: of_client(*client), (per_client, examples))


def longest_behind(
    per_client: ClientConfigs, entries: jax.Array | None, *, size: int
) -> Behind:
    """Bounds the messages of so many features, `[N]`, of mini-batches of a size."""
    if entries is None:
        return Behind(None, None)
    of_both = per_client.features, per_client.feature_gradients
    return Behind(*(_longest(how, entries, size) for how in of_both))


def longest_at_cut(
    config: FedSLConfig, per_client: ClientConfigs, entries: jax.Array, *, size: int
) -> AtCut:
    """Bounds the messages of so many activations, `[N]`, of mini-batches of a size."""
    back = None
    if config.cut_gradients.active:
        back = _longest(per_client.cut_gradients, entries, size)
    return AtCut(_longest(per_client.activations, entries, size), entries, back)


def _update(
    config: FedSLConfig,
    per_client: ClientConfigs,
    entries: Any,
    tensors: int,
    *,
    compressed: Callable[[CompressorConfig], Link],
) -> Link:
    """The link of updates, `[K]`, or of the gradients that are sent in their place."""
    if config.updates.active:
        return compressed(per_client.updates)
    bits = number_bits(config, per_client)
    update = quantized_link(
        config,
        # All b bits: what an error bound would save depends on the values.
        BitAllocation(bits, jnp.zeros_like(bits)),
        jnp.broadcast_to(entries, bits.shape),
        tensors,
    )
    if not config.gradients.active:
        return update
    sent = gradient_is_message(config, per_client)
    # A select, as I may be traced: only with I = 1 is the gradient the message.
    return choose(sent, compressed(per_client.gradients), update)


def _normal(key: jax.Array, tree: Any) -> Any:
    """Draws normal entries in the place of those of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return structure.unflatten([jax.random.normal(own, x.shape) for own, x in pairs])


def typical_update(
    config: FedSLConfig, per_client: ClientConfigs, params: Any, mask: Mask
) -> Link:
    """Counts the message of an update, `[K]`, of normal entries under a common mask."""
    update = _normal(jax.random.key(2), params)

    def of_client(own):
        how = own.compressor(common_levels(config.levels, own))
        key = jax.random.key(3)
        states, sent = init_layers(how, update), entries_of(mask, update)
        return send_layers(how, key, update, sent, states=states).bits

    return _update(
        config,
        per_client,
        kept(mask, params),
        len(jax.tree.leaves(params)),
        compressed=lambda configs: jax.lax.map(of_client, configs),
    )


def typical_model(config: FedSLConfig, params: Any) -> Link | None:
    """Counts the message of a model of normal entries; None if it goes as it is."""
    if not config.models.active:
        return None
    key = jax.random.key(4)
    draws = _normal(key, params)
    return total(send_down(config.models, key, draws, residual=None).messages)


def longest_model(config: FedSLConfig, params: Any) -> Link | None:
    """Bounds the message of a model; None if it goes as it is."""
    if not config.models.active:
        return None
    most = config.models.compressor().wire.most
    return total([most(leaf.size, leaf.size) for leaf in jax.tree.leaves(params)])


def longest_update(config: FedSLConfig, per_client: ClientConfigs, params: Any) -> Link:
    """Bounds the message of an update, `[N]`: nothing pruned, all the bits allowed."""
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]

    def of_client(own, level):
        most = own.compressor(level).wire.most
        return total([most(size, size) for size in sizes])

    def of_all(configs):
        # Who else is in a cohort, and so a client's q_k, is not known before a run.
        levels = largest(config.levels, configs, config.cohort_size)
        return jax.vmap(of_client)(configs, levels)

    return _update(config, per_client, sum(sizes), len(sizes), compressed=of_all)
