"""What clients and server computed in one round."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Work
from fedjax_sl.fedsl.config import FedSLConfig, Settings
from fedjax_sl.fedsl.state import FedSLState, Places, Setup
from fedjax_sl.models.cost import layer_costs


def kept_macs(macs: dict[str, int], mask: Any) -> jax.Array:
    """Of one example through a client model under its mask."""
    total = jnp.float32(sum(macs.values()))
    for path, keep in jax.tree_util.tree_leaves_with_path(mask):
        name = "/".join(part.key for part in path[:-1])
        if name in macs and path[-1].key == "kernel":
            total -= macs[name] * (1 - keep.mean())
    return total


def scored(
    config: FedSLConfig, settings: Settings, places: Places, starts: jax.Array
) -> jax.Array:
    """`[K]` examples of the pass that scores weights.

    It takes place when a period starts, unless it is not to be charged, scores need no
    pass, or nothing is to be pruned by them; a common mask is made of the scores of
    those clients, too, that do not prune.
    """
    examples = (places.weight > 0).sum(axis=1)
    charged = config.importance == "taylor" and config.charge_scoring
    prunes = settings.prune_ratio > 0
    if config.mask_scope == "common":
        prunes = (prunes & (examples > 0)).any()
    return examples * (charged & starts & prunes)


def work(
    setup: Setup,
    state: FedSLState,
    places: Places,
    settings: Settings,
    starts: jax.Array,
) -> Work:
    """Multiplications of one round, per client of the cohort.

    A kernel costs in proportion to the entries it keeps: pruned filters cost nothing,
    nor do the inputs that they no longer give; single weights cost nothing either,
    which takes hardware that skips them. The pass that scores weights, when a period
    starts, is dense.

    Args:
      setup: model and configuration.
      state: the state, its masks those of this round.
      places: the mini-batches.
      settings: `[K]` each.
      starts: [] bool, a period starts with this round.

    Returns:
      A `Work`.
    """
    model = setup.model
    client = {c.name: c.macs for c in layer_costs(model.client, model.input_shape)}
    server = sum(c.macs for c in layer_costs(model.server, model.cut_shape()))
    examples = (places.weight > 0).sum(axis=1).astype(jnp.float32)
    once_more = scored(setup.config, settings, places, starts)
    kept = jax.vmap(lambda mask: kept_macs(client, mask))(state.mask)
    return Work(
        client=examples * kept + once_more * sum(client.values()),
        server=(examples + once_more) * server,
    )
