"""The second cut of a U-shaped network: features come down, their gradients go up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compressors import Received, send
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import as_it_arrives
from fedjax_sl.federation.second_cut import SecondCut
from fedjax_sl.federation.split_grad import SplitGrad
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.cut import allowed
from fedjax_sl.fedsl.state import FEATURE_GRADIENTS, FEATURES


class Behind(NamedTuple):
    """Messages at the second cut, `[K]`; None of what is sent whole, as float32.

    Attributes:
      features: that the server sends.
      gradients: that the clients send.
    """

    features: Link | None
    gradients: Link | None


def _sent(
    how: CompressorConfig, keys: jax.Array, tensor: jax.Array, mask: jax.Array
) -> Received:
    """Compresses a tensor of each client, `[K, B, ...]`."""

    def of_client(how, *message):
        return send(how.compressor(), *message)

    return jax.vmap(of_client)(how, keys, tensor, mask)


def second_cut(
    config: FedSLConfig,
    per_client: ClientConfigs,
    client_id: jax.Array,
    key: jax.Array,
    *,
    real: jax.Array,
) -> SecondCut:
    """Builds the `SecondCut`; gradients go up only for the features that were sent.

    Args:
      config: the compressors.
      per_client: `[K]` each.
      client_id: `[K]`.
      key: of this round.
      real: `[K, B]` bool, False for padding.

    Returns:
      The `SecondCut`; its auxiliary data are, of features, which were sent and their
      `Link`, and the `Link` of the gradients, None of what is sent whole.
    """

    def down(features):
        mask = jax.vmap(lambda x, real: allowed(jnp.bool_(True), real, x.shape))(
            features, real
        )
        if not config.features.active:
            return features, (mask, None)
        keys = client_keys(key, client_id, FEATURES)
        received = _sent(per_client.features, keys, features, mask)
        return received.values, (received.sent, received.bits)

    def up(grad, sent):
        mask, message = sent[0], None
        if config.feature_gradients.active:
            keys = client_keys(key, client_id, FEATURE_GRADIENTS)
            received = _sent(per_client.feature_gradients, keys, grad, mask)
            grad, message = received.values, received.bits
        elif config.features.active:
            # Gradients of the others are lost on the way back through `down`.
            counted = mask.sum(axis=tuple(range(1, mask.ndim)), dtype=jnp.int32)
            message = Link.float32(counted)
        # Sent by the clients, so that the fault of their messages is in it, too.
        return jax.vmap(as_it_arrives)(per_client.fault, grad), message

    return SecondCut(down, up)


def sent_behind(result: SplitGrad) -> Behind:
    """Returns the messages at the second cut in a step, if there is one."""
    if result.behind is None:
        return Behind(None, None)
    (_, features), gradients = result.behind
    return Behind(features, gradients)
