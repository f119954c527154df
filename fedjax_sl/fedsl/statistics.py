"""Running statistics of the clients' norms, where channels are pruned.

A pruned channel outputs 0 for every example, which says nothing about the channel of
the dense model. Its statistics are therefore not updated, and the average takes only
the clients that kept the channel.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.compression.pruning import Mask
from fedjax_sl.fedsl.own_cut import mask_by_own_cut
from fedjax_sl.fedsl.state import Context
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import Variables


def statistics_of(variables: Variables) -> dict[str, Any]:
    """Returns all collections except the parameters."""
    return {kind: tree for kind, tree in variables.items() if kind != "params"}


def _none(leaf: Any) -> bool:
    return leaf is None


def statistics_kept(
    context: Context, own_cut: jax.Array | None, mask: Mask, client: Variables
) -> dict[str, Any]:
    """Returns a mask of the statistics that a client updates and sends.

    Args:
      context: granularity, where single weights keep every channel; and model.
      own_cut: [], as from `own_cuts`.
      mask: m_k.
      client: its variables, statistics `[n]`.

    Returns:
      A mask of the statistics: `[n]` at each leaf, or None where all are kept.
    """
    statistics = leaves_of(statistics_of(client))

    def of_held(at):
        # None keeps all: single weights leave every channel something to learn from.
        can, masks = prunable(at), dict.fromkeys(statistics)
        if context.config.granularity == "filter":
            for path, number in can.statistics.items():
                masks[path] = channels_kept(can.groups[number], mask)
        return unflatten_dict(masks)

    return mask_by_own_cut(context.model, own_cut, of_held)


def learnt(kept: Any, new: Any, old: Any) -> Any:
    """Selects new statistics for kept channels and old ones for pruned channels."""

    def select(keep, after, before):
        # A pruned channel is 0 in the batch, which the dense one is not.
        return after if keep is None else jnp.where(keep, after, before)

    return jax.tree.map(select, kept, new, old, is_leaf=_none)
