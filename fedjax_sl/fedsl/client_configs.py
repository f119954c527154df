"""Parameters of each client of a cohort, which may differ by class of devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.config_base import per_client
from fedjax_sl.fedsl.config import FedSLConfig


class ClientConfigs(NamedTuple):
    """Per-client parameters, `[K]` each.

    `fault` is the factor by which a client's messages are corrupted, as in `Cohort`;
    `own_cut` is the number of a client's cut, as from `models.class_cuts.own_cuts`.
    """

    prune_ratio: jax.Array
    grad_bits: jax.Array
    upload_bits: jax.Array
    down_bits: jax.Array
    dropout_rate: jax.Array
    activations: CompressorConfig
    cut_gradients: CompressorConfig
    features: CompressorConfig
    feature_gradients: CompressorConfig
    gradients: CompressorConfig
    updates: CompressorConfig
    fault: jax.Array | None = None
    own_cut: jax.Array | None = None


def client_configs(
    config: FedSLConfig, client_id: jax.Array, fault: jax.Array | None = None
) -> ClientConfigs:
    """Looks up the parameters of each client of a cohort.

    Args:
      config: the configuration.
      client_id: `[K]`.
      fault: `[K]`, or None.

    Returns:
      ClientConfigs, each `[K]`; bits as int32.
    """

    def number(value):
        # By id, not by slot: a device is of one class in every cohort.
        return per_client(value, client_id, jnp.float32)

    def bits(value):
        # Looked up, not branched on: classes of devices differ in numbers, not in code.
        return per_client(config.bits if value is None else value, client_id, jnp.int32)

    return ClientConfigs(
        prune_ratio=number(config.prune_ratio),
        grad_bits=bits(config.grad_bits),
        upload_bits=bits(config.upload_bits),
        down_bits=bits(config.down_bits),
        dropout_rate=number(config.dropout_rate),
        activations=config.activations.of_clients(client_id),
        cut_gradients=config.cut_gradients.of_clients(client_id),
        features=config.features.of_clients(client_id),
        feature_gradients=config.feature_gradients.of_clients(client_id),
        gradients=config.gradients.of_clients(client_id),
        updates=config.updates.of_clients(client_id),
        fault=fault,
    )
