"""Running statistics of the clients' norms, where channels are pruned.

A pruned channel outputs 0 for every example, which says nothing about the channel of
the dense model. Its statistics are therefore not updated, and the average takes only
the clients that kept the channel.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import Mask
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.split import Variables


def statistics_of(variables: Variables) -> dict[str, Any]:
    """Returns all collections except the parameters."""
    return {kind: tree for kind, tree in variables.items() if kind != "params"}


def _none(leaf: Any) -> bool:
    return leaf is None


def filters_kept(mask: Mask) -> jax.Array:
    """Returns which filters of a unit are kept, `[Cout]` bool."""
    # A bias or scale has the filter mask itself; the kernel's is coupled to inputs.
    leaf = min(jax.tree.leaves(mask), key=lambda keep: keep.ndim)
    return leaf.any(axis=tuple(range(leaf.ndim - 1)))


def channels_kept(config: FedSLConfig, mask: Mask, client: Variables) -> dict[str, Any]:
    """Returns a mask of the statistics that a client updates and sends.

    Args:
      config: its granularity; pruning single weights keeps every channel.
      mask: m_k.
      client: its variables, statistics `[Cout]` in a unit.

    Returns:
      A mask of the statistics: `[Cout]` at each leaf, or None where all are kept.
    """

    def unit(name, leaves):
        if config.granularity == "weight" or name not in mask:
            return jax.tree.map(lambda _: None, leaves)
        kept = filters_kept(mask[name])
        return jax.tree.map(lambda _: kept, leaves)

    return {
        kind: {name: unit(name, leaves) for name, leaves in units.items()}
        for kind, units in statistics_of(client).items()
    }


def learnt(kept: Any, new: Any, old: Any) -> Any:
    """Selects new statistics for kept channels and old ones for pruned channels."""

    def select(keep, after, before):
        return after if keep is None else jnp.where(keep, after, before)

    return jax.tree.map(select, kept, new, old, is_leaf=_none)
