"""What clients and server computed in one round."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Work
from fedjax_sl.fedsl.state import FedSLState, Places, Setup
from fedjax_sl.models.cost import layer_costs


def _kept_macs(macs: dict[str, int], mask: Any) -> jax.Array:
    """Of one example through a client model under its mask."""
    total = jnp.float32(sum(macs.values()))
    for path, keep in jax.tree_util.tree_leaves_with_path(mask):
        name = "/".join(part.key for part in path[:-1])
        if name in macs and path[-1].key == "kernel":
            total -= macs[name] * (1 - keep.mean())
    return total


def work(setup: Setup, state: FedSLState, places: Places, starts: jax.Array) -> Work:
    """Multiplications of one round, per client of the cohort.

    A kernel costs in proportion to the entries it keeps: pruned filters cost nothing,
    nor do the inputs that they no longer give; single weights cost nothing either,
    which takes hardware that skips them. The pass that scores weights, when a period
    starts, is dense.

    Args:
      setup: model and configuration.
      state: the state, its masks those of this round.
      places: the mini-batches.
      starts: [] bool, a period starts with this round.

    Returns:
      A `Work`.
    """
    model, config = setup.model, setup.config
    client = {c.name: c.macs for c in layer_costs(model.client, model.input_shape)}
    server = sum(c.macs for c in layer_costs(model.server, model.cut_shape()))
    examples = (places.weight > 0).sum(axis=1).astype(jnp.float32)
    scored = jnp.zeros_like(examples)
    if config.importance == "taylor" and config.charge_scoring:
        scored = examples * starts
    kept = jax.vmap(lambda mask: _kept_macs(client, mask))(state.mask)
    return Work(
        client=examples * kept + scored * sum(client.values()),
        server=(examples + scored) * server,
    )
