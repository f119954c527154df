"""The end of a period: clients upload what they learned, the server averages it."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.aggregation import (
    broadcast,
    mean_of_senders,
    weighted_mean,
)
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import UPLOAD, FedSLState, Setup


def message_bits(setup: Setup, settings: Settings) -> jax.Array:
    """Bits of each number of a client's upload.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time.

    Args:
      setup: the configuration.
      settings: `[K]` each.

    Returns:
      `[K]` int32.
    """
    once = jnp.asarray(setup.config.interval) == 1
    coded = once & (settings.grad_bits < FLOAT_BITS)
    return jnp.where(coded, settings.grad_bits, settings.upload_bits)


def _received(setup: Setup, state: FedSLState, settings: Settings, key: jax.Array):
    """Client parameters as the server rebuilds them: anchor + Q_b(w_k - anchor)."""
    once = jnp.asarray(setup.config.interval) == 1
    coded = once & (settings.grad_bits < FLOAT_BITS)
    bits = jnp.where(coded, FLOAT_BITS, settings.upload_bits)

    def one(key, params, mask, bits):
        start = state.anchor
        if not setup.config.restore:
            start = apply_mask(start, mask)
        update = jax.tree.map(jnp.subtract, params, start)
        update = quantized(setup.config, key, apply_mask(update, mask), bits)
        update = apply_mask(update, mask)
        rebuilt = jax.tree.map(jnp.add, start, update)
        return jax.tree.map(partial(jnp.where, bits >= FLOAT_BITS), params, rebuilt)

    keys = client_keys(key, state.client_id, UPLOAD)
    return jax.vmap(one)(keys, state.client["params"], state.mask, bits)


def aggregate(
    setup: Setup, state: FedSLState, settings: Settings, key: jax.Array
) -> FedSLState:
    """w_c <- sum_k omega_k w_{c,k}, and every client takes it over.

    Args:
      setup: the configuration.
      state: the state after the period's last step.
      settings: `[K]` each.
      key: of this round.

    Returns:
      The state, all client models equal. Norm statistics are averaged as they are.
    """
    params = _received(setup, state, settings, key)
    if setup.config.average_over == "keepers":
        mean = mean_of_senders(params, state.mask, state.weights, state.anchor)
    else:
        mean = weighted_mean(params, state.weights)
    client = {**weighted_mean(state.client, state.weights), "params": mean}
    return state._replace(client=broadcast(client, state.weights.shape[0]))
