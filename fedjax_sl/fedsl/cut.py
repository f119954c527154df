"""The cut: activations go up with dropout, their gradients come down quantised."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.dropout import drop_activations
from fedjax_sl.compressors import send
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import Each, client_keys
from fedjax_sl.federation.faults import as_it_arrives
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.own_cut import of_those_here
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.shared_gradient import (
    mean_gradient,
    sent_entries,
)
from fedjax_sl.fedsl.state import ACTIVATIONS, DOWNLINK, DROPOUT


def send_back(
    config: FedSLConfig,
    key: jax.Array,
    grad: jax.Array,
    *,
    mask: jax.Array,
    bits: jax.Array,
) -> jax.Array:
    """Quantises the gradients at the cut, as one client receives them.

    Args:
      config: the quantiser.
      key: of this client and this pass.
      grad: `[B, ...]`, delta_k.
      mask: `[B, ...]` bool, entries that were sent up; only these are sent down.
      bits: [] b; 32 sends float32.

    Returns:
      `[B, ...]`.
    """
    # Before quantising: entries that are not sent must not enter the norm.
    received = quantized(config, key, jnp.where(mask, grad, 0.0), bits)
    # And after it: on a range the quantiser does not map 0 to 0.
    return jnp.where(mask, received, 0.0)


def allowed(mask: jax.Array, real: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the entries of one client that a compressor may send, `[B, ...]` bool."""
    # Neither padding nor what the dropout took may enter a norm or a rank.
    return jnp.broadcast_to(mask, shape) & real.reshape(-1, *[1] * (len(shape) - 1))


class AtCut(NamedTuple):
    """Which activations were sent.

    Attributes:
      mask: `[K, B, ...]` bool.
      message: the bits of each client's message, `[K]`; None if it is not compressed.
      finite: `[K]` bool, whether they are as they arrive; None unless gradients are
        averaged.
    """

    mask: jax.Array
    message: Link | None
    finite: jax.Array | None


def dropped(
    config: FedSLConfig,
    key: jax.Array,
    activations: jax.Array,
    channels: jax.Array,
    *,
    rate: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Drops activations of one client at random, and those of pruned channels.

    Args:
      config: granularity and rescaling of the dropout.
      key: of the client and the pass.
      activations: `[B, ...]`.
      channels: `[Ch]` bool, those that are not pruned.
      rate: [] p.

    Returns:
      `[B, ...]`, 0 where dropped; bool that broadcasts to them, which are kept.
    """
    # Pruned channels are drawn for, too: a thin cut changes no other draw.
    sent, mask = drop_activations(
        key,
        activations,
        rate=rate,
        rescale=config.rescale,
        per=config.dropout_per,
    )
    # What is not sent is 0 to the server, whatever the network made of it.
    mask &= channels.reshape(*[1] * (mask.ndim - 1), -1)
    return jnp.where(mask, sent, 0.0), mask


def _drop(
    config: FedSLConfig, keys: Any, activations: jax.Array, sendable: Any, own: Any
) -> tuple[jax.Array, AtCut]:
    """Drops and compresses the activations of one client, as the server receives them.

    Args:
      config: granularity and rescaling of the dropout.
      keys: of the dropout and of the compressor.
      activations: `[B, ...]`.
      sendable: `[Ch]` bool, channels that are not pruned; `[B]` bool, no padding.
      own: its `ClientConfigs`.
    """
    (drop_key, send_key), (channels, real) = keys, sendable
    sent, mask = dropped(config, drop_key, activations, channels, rate=own.dropout_rate)
    message = None
    if config.activations.active:
        may = allowed(mask, real, sent.shape)
        compressor = own.activations.compressor()
        # The new mask: gradients come back for what the compressor sent alone.
        sent, mask, message, _ = send(compressor, send_key, sent, may)
    # A fault changes what the server receives, not the client's own gradient.
    received = as_it_arrives(own.fault, sent)
    shared = config.backward == "mean"
    # One client that is not finite would spoil the mean that all receive.
    finite = jnp.isfinite(received.sum()) if shared else None
    return received, AtCut(mask, message, finite)


def _back(
    config: FedSLConfig, key: jax.Array, grad: jax.Array, sendable: Any, own: Any
) -> tuple[jax.Array, Link | None]:
    """Sends one client the gradients, `[B, ...]`, of what it sent."""
    mask, real = sendable
    may = allowed(mask, real, grad.shape)
    if not config.cut_gradients.active:
        return send_back(config, key, grad, mask=may, bits=own.down_bits), None
    received = send(own.cut_gradients.compressor(), key, grad, may)
    return received.values, received.bits


def cut_with_dropout(
    config: FedSLConfig,
    per_client: ClientConfigs,
    client_id: jax.Array,
    key: jax.Array,
    *,
    channels: jax.Array,
    real: jax.Array,
    weights: jax.Array,
    each: Each = jax.vmap,
    here: jax.Array | None = None,
) -> Cut:
    """Builds a `Cut` with dropout; gradients come back only for what was sent.

    A compressor is applied to what the dropout keeps of a client's whole mini-batch,
    and another to the gradients of what was sent.

    Args:
      config: granularity and rescaling of the dropout.
      per_client: `[K]` each.
      client_id: `[K]`.
      key: of this round.
      channels: `[K, Ch]` bool, as from `channels_at_cut`.
      real: `[K, B]` bool, False for padding.
      weights: `[K]` omega_k, 0 for absent clients.
      each: how clients are mapped, if not all are cut here.
      here: `[K]` bool, the clients that are; None for all.

    Returns:
      The `Cut`; its auxiliary data are an `AtCut`, and the bits of each client's
      message of gradients, `[K]`, or None if it is not compressed.
    """
    keys = [client_keys(key, client_id, use) for use in (DROPOUT, ACTIVATIONS)]
    down_keys = client_keys(key, client_id, DOWNLINK)
    over_clients = of_those_here(each, here)

    def down(grad, at_cut):
        if config.backward == "own":
            sendable = at_cut.mask, real
            back = over_clients(partial(_back, config))
            return back(down_keys, grad, sendable, per_client)
        heard = jnp.where(at_cut.finite, weights, 0.0)
        mean = mean_gradient(grad, sent_entries(at_cut.mask, real, grad.shape), heard)
        # The server's own key: all clients receive the same message.
        server_key = jax.random.fold_in(key, DOWNLINK)
        # Any client's bits: `check_shared_gradient` allows one number for all.
        one = quantized(config, server_key, mean, per_client.down_bits[0])
        # A client with fewer examples has padding where others have some.
        own = real.reshape(*real.shape, *[1] * (grad.ndim - 2))
        return jnp.where(own, one, 0.0), None

    return Cut(
        up=lambda activations: over_clients(partial(_drop, config))(
            keys, activations, (channels, real), per_client
        ),
        down=down,
        here=here,
    )
