"""Running statistics of the clients' norms, where channels are pruned.

A pruned channel is 0 in every example. That is no statistic of the channel, which the
dense model has and which may compete again; so the statistics of a pruned channel stay
as they were, and are averaged over the clients that kept it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import Mask
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.split import Variables


def statistics_of(variables: Variables) -> dict[str, Any]:
    """All but the parameters."""
    return {kind: tree for kind, tree in variables.items() if kind != "params"}


def _none(leaf: Any) -> bool:
    return leaf is None


def _filters(mask: Mask) -> jax.Array:
    """`[Cout]`, which filters of a unit are kept."""
    leaf = min(jax.tree.leaves(mask), key=lambda keep: keep.ndim)
    return leaf.any(axis=tuple(range(leaf.ndim - 1)))


def channels_kept(config: FedSLConfig, mask: Mask, client: Variables) -> dict[str, Any]:
    """Which statistics a client learns and sends.

    Args:
      config: its granularity; single weights leave every channel as it is.
      mask: m_k.
      client: its variables, statistics `[Cout]` in a unit.

    Returns:
      A mask of the statistics: `[Cout]` at each leaf, or None where all are kept.
    """

    def unit(name, leaves):
        if config.granularity == "weight" or name not in mask:
            return jax.tree.map(lambda _: None, leaves)
        kept = _filters(mask[name])
        return jax.tree.map(lambda _: kept, leaves)

    return {
        kind: {name: unit(name, leaves) for name, leaves in units.items()}
        for kind, units in statistics_of(client).items()
    }


def learnt(kept: Any, new: Any, old: Any) -> Any:
    """New statistics of the channels that are kept, old ones of those that are not."""

    def one(keep, after, before):
        return after if keep is None else jnp.where(keep, after, before)

    return jax.tree.map(one, kept, new, old, is_leaf=_none)


def unlearnt(kept: Any, statistics: Any) -> Any:
    """The statistics before a period, as a client that pruned the channel still has it.

    Args:
      kept: as from `channels_kept`, leaves `[K, Cout]`.
      statistics: of the K clients, leaves `[K, Cout]`.

    Returns:
      Leaves `[Cout]`; where every client kept a channel, the first client's.
    """

    def one(keep, values):
        if keep is None:
            return values[0]
        return jnp.take_along_axis(values, keep.argmin(axis=0)[None], axis=0)[0]

    return jax.tree.map(one, kept, statistics, is_leaf=_none)
