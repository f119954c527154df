"""A thin cut: channels that a client has pruned are not sent, nor told of."""

import math

import jax
import jax.numpy as jnp

from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.compression.pruning import Mask
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.class_cuts import cut_models
from fedjax_sl.models.prunable import Prunable, prunable
from fedjax_sl.models.split import SplitModel


def thins_cut(config: FedSLConfig, can: Prunable) -> bool:
    """Returns whether pruned channels at the cut are not sent."""
    # Single weights leave no channel 0: there each of them has to be sent.
    filters = config.granularity == "filter" and can.at_cut is not None
    return config.thin_cut and filters


def channels_at_cut(
    config: FedSLConfig, can: Prunable, mask: Mask, channels: int
) -> jax.Array:
    """Returns which channels of the cut one client sends.

    A pruned channel at the cut is one of zeros, which the server, who knows the mask,
    need not be sent (reconstructed). Gradients of these channels do not come down
    either.

    Args:
      config: granularity of the mask, and whether the cut is thin.
      can: what can be pruned.
      mask: m_k.
      channels: Ch, at the cut.

    Returns:
      `[Ch]` bool.
    """
    # Only the traffic depends on it, no model: tests/fedsl/test_thin_cut.py.
    if thins_cut(config, can):
        return channels_kept(can.groups[can.at_cut], mask)  # type: ignore[index]
    return jnp.ones((channels,), bool)


def channels_sent(
    config: FedSLConfig, model: SplitModel, masks: Mask
) -> list[jax.Array]:
    """Applies `channels_at_cut` to clients' masks, leaves `[K, ...]`, at each cut.

    Returns:
      `[K, Ch]` for each of `cut_models`.
    """

    def at_cut(at):
        can, channels = prunable(at), at.cut_shape()[-1]
        return jax.vmap(lambda mask: channels_at_cut(config, can, mask, channels))

    return [at_cut(at)(masks) for at in cut_models(model)]


def bitmap_bits(
    config: FedSLConfig, rate: jax.Array, channels: jax.Array, *, shape: tuple[int, ...]
) -> jax.Array:
    """Returns the bits that tell the server which activations of an example are sent.

    One for each draw of the dropout; none if the server redraws them, or if a client
    drops nothing.

    Args:
      config: what is drawn, and whether the mask is sent.
      rate: `[K]` p.
      channels: `[K, Ch]` bool, which of them are not pruned.
      shape: of one example's activations at the cut.

    Returns:
      `[K]` int32.
    """
    draws = math.prod(shape[:-1]) if config.dropout_per == "element" else 1
    # By client: of several classes of devices one may drop nothing.
    sent = (config.dropout_mask == "bitmap") & (rate > 0)
    # The server knows which channels are pruned, and needs no bit for their draws.
    return draws * channels.sum(axis=1, dtype=jnp.int32) * sent
