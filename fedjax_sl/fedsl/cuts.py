"""All cuts of a round: where each client transmits, and what that takes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import Mask
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.split_grad import SplitGrad
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.cut import AtCut, cut_with_dropout
from fedjax_sl.fedsl.shared_gradient import number_broadcast, sent_entries
from fedjax_sl.fedsl.thin_cut import bitmap_bits, channels_sent
from fedjax_sl.models.class_cuts import cut_models, pick
from fedjax_sl.models.split import SplitModel


def at_each_cut(model: SplitModel, own_cut: jax.Array | None) -> list[jax.Array | None]:
    """Which clients are cut at each of `cut_models`, `[K]` bool; None for all."""
    if own_cut is None:
        # None, not all True: a single cut needs no select, and no map over clients.
        return [None]
    return [own_cut == number for number, _ in enumerate(cut_models(model))]


def cuts_with_dropout(
    config: FedSLConfig,
    model: SplitModel,
    per_client: ClientConfigs,
    client_id: jax.Array,
    *,
    key: jax.Array,
    masks: Mask,
    real: jax.Array,
    weights: jax.Array,
    each: Each,
) -> list[Cut]:
    """Builds the `cut_with_dropout` at each cut; a client passes through its own.

    Args:
      config: of the dropout.
      model: the network.
      per_client: `[K]` each.
      client_id: `[K]`.
      key: of this round.
      masks: m_k, leaves `[K, ...]`.
      real: `[K, B]` bool, False for padding.
      weights: `[K]` omega_k, 0 for absent clients.
      each: how clients are mapped, if not all have one cut.

    Returns:
      A `Cut` for each of `cut_models`.
    """
    channels = channels_sent(config, model, masks)
    found = zip(channels, at_each_cut(model, per_client.own_cut), strict=True)
    return [
        # The same keys at each cut: a client draws at one of them only.
        cut_with_dropout(
            config,
            per_client,
            client_id,
            key,
            channels=here,
            real=real,
            weights=weights,
            each=each,
            here=those,
        )
        for here, those in found
    ]


def _number_sent(shape: tuple[int, ...], at_cut: AtCut, weight: jax.Array) -> jax.Array:
    """Counts the activations that each client sends, without padding, `[K]` int32.

    Args:
      shape: of one example's activations at the cut.
      at_cut: which of them were sent.
      weight: `[K, B]`, 0 for padding.
    """
    shape = (*weight.shape, *shape)
    real = (weight > 0).reshape(*weight.shape, *[1] * (len(shape) - 2))
    # A channel mask has one entry per channel and is counted once per pixel.
    sent = jnp.broadcast_to(at_cut.mask & real, shape)
    return sent.sum(axis=tuple(range(1, sent.ndim)))


def _number_returned(
    config: FedSLConfig, shape: tuple[int, ...], at_cut: AtCut, *, weight: jax.Array
) -> jax.Array:
    """Counts the values whose gradients each client receives, `[K]` int32.

    Arguments as for `_number_sent`; config: whose gradients they are.
    """
    if config.backward == "own":
        return _number_sent(shape, at_cut, weight)
    # A broadcast is as long as the union of what clients sent, not as each part.
    whole = (*weight.shape, *shape)
    sent = sent_entries(at_cut.mask, weight > 0, whole)
    # A mean of gradients is of the finite ones: they are known there.
    return number_broadcast(sent, at_cut.finite)  # type: ignore[arg-type]


class SentAtCut(NamedTuple):
    """What crosses each client's own cut in a step, `[K]`.

    Attributes:
      activations: the message of the activations.
      returned: int32, values whose gradients come back.
      back: the message of these gradients; None if it has a plain count.
    """

    activations: Link
    returned: jax.Array
    back: Link | None


def sent_at_cuts(
    config: FedSLConfig,
    model: SplitModel,
    own_cut: jax.Array | None,
    result: SplitGrad,
    *,
    weight: jax.Array,
) -> SentAtCut:
    """Counts what crosses the cuts of a step.

    Args:
      config: whose gradients come back.
      model: the network.
      own_cut: `[K]`, as from `own_cuts`.
      result: of the step.
      weight: `[K, B]`, 0 for padding.

    Returns:
      A `SentAtCut`.
    """
    found = []
    pairs = zip(cut_models(model), result.at_cut, result.back, strict=True)
    for at, at_cut, back in pairs:
        shape = at.cut_shape()
        transmitted, message = _number_sent(shape, at_cut, weight), at_cut.message
        returned = _number_returned(config, shape, at_cut, weight=weight)
        activations = Link.float32(transmitted) if message is None else message
        found.append(SentAtCut(activations, returned, back))
    return pick(own_cut, found)


def bitmaps(
    config: FedSLConfig, model: SplitModel, per_client: ClientConfigs, masks: Mask
) -> jax.Array:
    """Returns the `bitmap_bits` of each client at its own cut, `[K]` int32."""
    rate, channels = per_client.dropout_rate, channels_sent(config, model, masks)
    pairs = zip(cut_models(model), channels, strict=True)
    return pick(
        per_client.own_cut,
        [bitmap_bits(config, rate, here, shape=at.cut_shape()) for at, here in pairs],
    )
