"""The values of a client's message, its gradient or its update, and their bits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import apply_mask, kept
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Payload
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers, send_layers
from fedjax_sl.fedsl.bit_allocation import (
    ALLOCATION_BITS,
    BitAllocation,
    allocated,
    tensor_bits,
)
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.quantizer import coded_bits, norm_bits, quantized
from fedjax_sl.fedsl.state import Context
from fedjax_sl.models.class_cuts import by_own_cut, held


class Message(NamedTuple):
    """A tree of tensors after it was sent.

    Attributes:
      values: leaves `[...]`, as rebuilt; 0 where pruned.
      link: [] each, of the values and of what decodes them.
      state: of the sender; None if it had none.
    """

    values: Any
    link: Link
    state: Any


class Messages(NamedTuple):
    """Messages of one compressor before they are coded.

    Attributes:
      tensors: payload of each tensor, by name.
      masks: `[...]` bool by name, the entries that may be sent.
      how: the compressor.
      levels: [] q_k of that compressor; None as its bits say.
    """

    tensors: dict[str, Payload]
    masks: dict[str, jax.Array]
    how: CompressorConfig
    levels: jax.Array | None


def entries_of(mask: Any, tree: Any) -> Any:
    """Returns which entries a mask keeps, leaves `[...]` bool as those of the tree."""

    def of_leaf(keep, leaf):
        # Of the whole shape: to a compressor an axis of size 1 stands for itself.
        return jnp.broadcast_to(True if keep is None else keep, leaf.shape)

    return jax.tree.map(of_leaf, mask, tree, is_leaf=lambda keep: keep is None)


def quantized_link(
    config: FedSLConfig, bits: BitAllocation, entries: jax.Array, tensors: int
) -> Link:
    """Counts the bits of quantised tensors: their values, norms and bit allocation.

    Args:
      config: of the quantiser.
      bits: `[...]` each, of the tensors' values.
      entries: `[...]` int32, values sent.
      tensors: number of tensors.

    Returns:
      The link, `[...]`.
    """
    side = norm_bits(config, tensors, bits.least)
    if config.quantizer_error is not None:
        allocation = ALLOCATION_BITS * tensors
        side += jnp.where(bits.least < FLOAT_BITS, allocation, 0)
    # A sign's bit is in the common width, so that `more` is of the differences alone.
    return Link(entries, coded_bits(config, bits.least), bits.more, side)


def gradient_is_message(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` bool, whether the quantised gradient is itself the message.

    This holds for I = 1, unless noise is added to the update or it has a compressor of
    its own.
    """
    coded = per_client.grad_bits < FLOAT_BITS
    if config.updates.active:
        return jnp.zeros_like(coded)
    # I and z may be traced, so they are compared in arrays.
    coded = (jnp.asarray(config.interval) == 1) & (coded | config.gradients.active)
    # With noise the update is no longer what the gradient tells, and is coded itself.
    if config.noise_multiplier is None:
        return coded
    return coded & (jnp.asarray(config.noise_multiplier) == 0)


def number_bits(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` b, the most bits per value in a client's message."""
    coded = gradient_is_message(config, per_client)
    return jnp.where(coded, per_client.grad_bits, per_client.upload_bits)


def sent(
    config: FedSLConfig,
    compressor: CompressorConfig,
    key: jax.Array,
    tree: Any,
    *,
    mask: Any,
    bits: jax.Array,
    levels: jax.Array | None = None,
    state: Any = None,
) -> Message:
    """Sends a client's tensors, each by itself: compressed, or else quantised.

    Args:
      config: of the quantiser.
      compressor: of this client; float32 is the quantiser.
      key: of this client and round, used here only.
      tree: leaves `[...]`, 0 where pruned.
      mask: m_k; pruned entries are not sent.
      bits: [] b of the quantiser; 32 sends the tensors as they are.
      levels: [] s of the compressor, in place of its own bits; None as they say.
      state: of the sender, as from `init_layers`; None if the compressor keeps none.

    Returns:
      The `Message`.
    """
    # qsgd by the largest magnitude is the quantiser: tests/fedsl/test_updates.py.
    if compressor.active:
        how = compressor.compressor(levels)
        # A compressor without feedback takes a state, too, which is dropped after.
        states = state or init_layers(how, tree)
        received = send_layers(how, key, tree, entries_of(mask, tree), states=states)
        after = None if state is None else received.state
        return Message(received.values, received.bits, after)
    each = tensor_bits(config, tree, bits)
    # On a range the quantiser does not map 0 to 0.
    values = apply_mask(quantized(config, key, tree, each), mask)
    allocation, entries = allocated(each, mask, tree), kept(mask, tree)
    tensors = len(jax.tree.leaves(tree))
    return Message(values, quantized_link(config, allocation, entries, tensors), state)


def gradient_quantized(
    context: Context, own: ClientConfigs, key: jax.Array, grad: Any, *, mask: Any
) -> Message:
    """Sends the gradient of the layers that one client holds.

    Args:
      context: model and quantiser.
      own: of this client.
      key: of this client and round, used here only.
      grad: of all layers before the deepest cut, leaves `[...]`, 0 where pruned.
      mask: m_k.

    Returns:
      The `Message`; the gradient of layers that it does not hold is as it was.
    """

    def of_held(at):
        found = sent(
            context.config,
            own.gradients,
            key,
            held(at, grad),
            mask=held(at, mask),
            bits=own.grad_bits,
        )
        # The server trains deeper layers itself: no message quantises their gradient.
        return found._replace(values={**grad, **found.values})

    return by_own_cut(context.model, own.own_cut, of_held)
