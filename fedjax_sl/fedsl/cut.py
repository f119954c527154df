"""What crosses the cut: activations up with some dropped, their gradients back."""

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
    """The gradients at the cut as each client receives them.

    Args:
      config: the quantiser.
      key: of this round.
      client_id: `[K]`.
      grad: `[K, B, ...]`, delta_k.
      mask: `[K, B, ...]` entries that had been sent up, the only ones sent back; None
        for all.
      bits: `[K]`; 32 sends them as they are.

    Returns:
      `[K, B, ...]`.
    """
    if mask is not None:
        grad = jnp.where(mask, grad, 0.0)
    keys = client_keys(key, client_id, DOWNLINK)
    return jax.vmap(partial(quantized, config))(keys, grad, bits)


def cut_with_dropout(
    config: FedSLConfig, per_client: ClientConfigs, client_id: jax.Array, key: jax.Array
) -> Cut:
    """Activation dropout on the way up; only what was sent has a gradient to return.

    Args:
      config: granularity and rescaling of the dropout.
      per_client: `[K]` each.
      client_id: `[K]`.
      key: of this round.

    Returns:
      The `Cut`; it reports the mask `[K, B, ...]`.
    """
    keys = client_keys(key, client_id, DROPOUT)

    def drop(one_key, activations, rate, fault):
        sent, mask = drop_activations(
            one_key,
            activations,
            rate=rate,
            rescale=config.rescale,
            per=config.dropout_per,
        )
        return arrived(fault, jnp.zeros_like(sent), sent), mask

    return Cut(
        up=lambda activations: jax.vmap(drop)(
            keys, activations, per_client.dropout_rate, per_client.fault
        ),
        down=lambda grad, mask: send_back(
            config, key, client_id, grad, mask, per_client.down_bits
        ),
    )
