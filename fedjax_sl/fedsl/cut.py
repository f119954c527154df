"""The cut: activations go up with dropout, their gradients come down quantised."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.dropout import drop_activations
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import arrived
from fedjax_sl.federation.split_grad import Cut
from fedjax_sl.fedsl.config import ClientConfigs, FedSLConfig
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import DOWNLINK, DROPOUT


def send_back(
    config: FedSLConfig,
    key: jax.Array,
    client_id: jax.Array,
    grad: jax.Array,
    mask: Any,
    bits: jax.Array,
) -> jax.Array:
    """Quantises the gradients at the cut, as each client receives them.

    Args:
      config: the quantiser.
      key: of this round.
      client_id: `[K]`.
      grad: `[K, B, ...]`, delta_k.
      mask: `[K, B, ...]` entries that were sent up; only these are sent down. None for
        all.
      bits: `[K]`; 32 sends float32.

    Returns:
      `[K, B, ...]`.
    """
    if mask is not None:
        # Before quantising: entries that are not sent must not enter the norm.
        grad = jnp.where(mask, grad, 0.0)
    keys = client_keys(key, client_id, DOWNLINK)
    return jax.vmap(partial(quantized, config))(keys, grad, bits)


def cut_with_dropout(
    config: FedSLConfig, per_client: ClientConfigs, client_id: jax.Array, key: jax.Array
) -> Cut:
    """Builds a `Cut` with dropout; gradients come back only for what was sent.

    Args:
      config: granularity and rescaling of the dropout.
      per_client: `[K]` each.
      client_id: `[K]`.
      key: of this round.

    Returns:
      The `Cut`; it reports the mask `[K, B, ...]`.
    """
    keys = client_keys(key, client_id, DROPOUT)

    def drop(client_key, activations, rate, fault):
        sent, mask = drop_activations(
            client_key,
            activations,
            rate=rate,
            rescale=config.rescale,
            per=config.dropout_per,
        )
        # A fault changes what the server receives, not the client's own gradient.
        return arrived(fault, jnp.zeros_like(sent), sent), mask

    return Cut(
        up=lambda activations: jax.vmap(drop)(
            keys, activations, per_client.dropout_rate, per_client.fault
        ),
        down=lambda grad, mask: send_back(
            config, key, client_id, grad, mask, per_client.down_bits
        ),
    )
