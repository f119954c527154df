"""Counts of what each client holds, at its own cut."""

from typing import Any

import jax

from fedjax_sl.algorithm import Link, Work
from fedjax_sl.compression.pruning import Mask, kept
from fedjax_sl.federation.model_down import none_down
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.compute import work
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.traffic import Sizes, sizes_of
from fedjax_sl.models.class_cuts import cut_models, held, pick
from fedjax_sl.models.split import SplitModel


def nothing_down(
    config: FedSLConfig, model: SplitModel, per_client: ClientConfigs
) -> Link | None:
    """The message of a round in which no model is sent, of the shapes of one."""
    found = [none_down(config.models) for _ in cut_models(model)]
    return pick(per_client.own_cut, found)


def sizes_held(
    config: FedSLConfig, model: SplitModel, per_client: ClientConfigs
) -> Sizes:
    """Computes `sizes_of` each client, `[K]`; one for all if they have one cut."""
    found = [sizes_of(config, at) for at in cut_models(model)]
    return pick(per_client.own_cut, found)


def kept_held(
    model: SplitModel, per_client: ClientConfigs, masks: Mask, params: Any
) -> jax.Array:
    """Counts the kept entries of what each client holds, `[K]` int32.

    Args:
      model: the network.
      per_client: `[K]` each.
      masks: m_k, leaves `[K, ...]`.
      params: of all layers before the deepest cut, leaves `[K, ...]`.
    """
    found = [
        jax.vmap(kept)(held(at, masks), held(at, params)) for at in cut_models(model)
    ]
    return pick(per_client.own_cut, found)


def work_held(
    config: FedSLConfig,
    model: SplitModel,
    per_client: ClientConfigs,
    examples: jax.Array,
    *,
    scored: jax.Array,
    masks: Mask,
) -> Work:
    """Counts the MACs of one round by `work`, of the layers that each client holds."""
    found = [
        work(config, at, examples, scored=scored, masks=masks)
        for at in cut_models(model)
    ]
    return pick(per_client.own_cut, found)
