"""The start of a period between two aggregations: who takes part, what is pruned."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Examples
from fedjax_sl.compression.pruning import (
    apply_mask,
    couple_inputs,
    keep_mask,
    magnitude_scores,
    random_scores,
    ratio_at,
    taylor_scores,
)
from fedjax_sl.data.cohort import take
from fedjax_sl.federation.aggregation import broadcast, weighted_mean
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import sound
from fedjax_sl.federation.split_grad import Cut, split_grad
from fedjax_sl.fedsl.config import FedSLConfig, Settings
from fedjax_sl.fedsl.cut import send_back
from fedjax_sl.fedsl.state import SCORES, FedSLState, Places, Setup


def masks(config: FedSLConfig, scores: Any, ratio: jax.Array | float) -> Any:
    """The mask of one client from its scores.

    Args:
      config: granularity and scope of the ranking.
      scores: as from `compression.pruning`.
      ratio: [] rho_t.

    Returns:
      A mask, whose kernels also lose the inputs that pruned filters no longer give.
    """
    mask = keep_mask(
        scores, ratio, granularity=config.granularity, scope=config.prune_scope
    )
    return couple_inputs(mask) if config.granularity == "filter" else mask


def _taylor(setup: Setup, state: FedSLState, examples, places, bits, key) -> Any:
    """Scores from the gradients of dense models, nothing dropped at the cut."""

    def group(each, server, examples, key, real, client, weights, ids, places, bits):
        def down(grad, _):
            return send_back(setup.config, key, ids, grad, None, bits)

        gradients = split_grad(
            setup.model,
            client,
            server,
            take(examples, *places),
            jnp.where(real, weights, 0.0),
            cut=Cut(up=lambda activations: (activations, None), down=down),
            each=each,
        )
        return (), each(taylor_scores)(client["params"], gradients.client)

    _, scores = setup.over_clients.fold(group, state.server, examples, key)(
        state.client, state.weights, state.client_id, places, bits
    )
    return scores


def _averaged(scores: Any, weights: jax.Array) -> Any:
    """The mean over the clients whose scores can be used."""
    good = jax.vmap(sound)(scores)
    given = jnp.where(good, weights, 0.0)
    whole = jnp.where(good.all() | ~good.any(), 1.0, given.sum())
    return weighted_mean(scores, given / jnp.maximum(whole, 1e-9))


def _scores(setup: Setup, state: FedSLState, examples, places, bits, key) -> Any:
    """Every client's scores, leaves `[K, ...]`."""
    params = state.client["params"]
    if setup.config.importance == "magnitude":
        scores = jax.vmap(magnitude_scores)(params)
    elif setup.config.importance == "random":
        keys = client_keys(key, state.client_id, SCORES)
        scores = jax.vmap(random_scores)(keys, params)
    else:
        scores = _taylor(setup, state, examples, places, bits, key)
    if setup.config.mask_scope == "common":
        common = _averaged(scores, state.weights)
        return broadcast(common, state.weights.shape[0])
    return scores


def _follow_clients(setup: Setup, state: FedSLState, client_id: jax.Array) -> Any:
    """Optimiser states of the new cohort: one's own if one stays, else a fresh one."""
    same = client_id[:, None] == state.client_id[None, :]
    stays, slot = same.any(axis=1), same.argmax(axis=1)
    fresh = jax.vmap(setup.client_optimizer(0.0).init)(state.client["params"])

    def choose(old, new):
        where = stays.reshape(-1, *[1] * (old.ndim - 1))
        return jnp.where(where, old[slot], new)

    return jax.tree.map(choose, state.client_opt, fresh)


def begin_period(
    setup: Setup,
    state: FedSLState,
    examples: Examples,
    places: Places,
    settings: Settings,
    client_id: jax.Array,
    key: jax.Array,
) -> FedSLState:
    """The cohort takes over the averaged model, scores its weights and prunes.

    Args:
      setup: model, configuration and mapping.
      state: all client models equal; `weights` already those of the new cohort.
      examples: of all clients.
      places: one mini-batch of each client to score on.
      settings: `[K]` each.
      client_id: `[K]`, the new cohort.
      key: of this round.

    Returns:
      The state with new masks, kept until the next period.
    """
    config = setup.config
    opt = _follow_clients(setup, state, client_id)
    state = state._replace(client_opt=opt, client_id=client_id)
    scores = _scores(setup, state, examples, places, settings.down_bits, key)
    end = config.prune_start if config.prune_end is None else config.prune_end
    ratio = ratio_at(
        state.round,
        settings.prune_ratio,
        start=config.prune_start,
        end=end,
        shape=config.prune_shape,
    )
    mask = setup.over_clients.map(partial(masks, config))(scores, ratio)
    params = state.client["params"]
    anchor = jax.tree.map(lambda leaf: leaf[0], params)
    if not config.restore:
        params = jax.vmap(apply_mask)(params, mask)
    return state._replace(
        client={**state.client, "params": params},
        anchor=anchor,
        mask=mask,
        importance=_averaged(scores, state.weights),
    )
