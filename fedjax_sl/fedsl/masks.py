"""Masks of one client: what it prunes of the layers that it holds."""

from typing import Any

import jax

from fedjax_sl.compression.hard_pruning import without_zeros, zeros_first
from fedjax_sl.compression.pruning import keep_mask
from fedjax_sl.compression.scores import of_kernels
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.own_cut import mask_by_own_cut
from fedjax_sl.fedsl.state import Context
from fedjax_sl.models.prunable import Prunable, prunable


def masks(
    config: FedSLConfig,
    can: Prunable,
    scores: Any,
    ratio: jax.Array | float,
    *,
    params: Any = None,
) -> Any:
    """Builds the mask of one client from its scores.

    Args:
      config: granularity and scope of the ranking.
      can: what can be pruned of the client's half.
      scores: as from `compression.scores`.
      ratio: [] rho_t.
      params: of the averaged model; its zeros stay pruned unless weights are restored.

    Returns:
      The mask; inputs of a kernel that come from pruned filters are pruned too.
    """
    hard = params is not None and not config.restore
    # None for single weights: every kernel entry is then ranked for itself.
    groups = can.groups if config.granularity == "filter" else None
    if groups is None:
        scores = of_kernels(scores, can.kernels)
    if hard:
        scores = zeros_first(scores, params, groups)
    mask = keep_mask(
        scores,
        ratio,
        granularity=config.granularity,
        scope=config.prune_scope,
        groups=groups,
    )
    # Ranked first is not enough where more weights are 0 than the ratio prunes.
    return without_zeros(mask, params, groups) if hard else mask


def own_masks(
    context: Context,
    own_cut: jax.Array | None,
    scores: Any,
    ratio: jax.Array | float,
    *,
    params: Any = None,
) -> Any:
    """Builds the mask of one client, by `masks`, of the layers before its own cut.

    Args:
      context: configuration and model.
      own_cut: [], as from `own_cuts`.
      scores: of all layers before the deepest cut.
      ratio: [] rho_t.
      params: as of `masks`.

    Returns:
      The mask; layers that the client does not hold are kept.
    """

    def of_held(at):
        return masks(context.config, prunable(at), scores, ratio, params=params)

    return mask_by_own_cut(context.model, own_cut, of_held)
