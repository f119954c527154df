"""Split federated learning without any technique, in the same engine.

FedSL's round with nothing pruned, quantised, dropped or counted: every
client and the server take a step of SGD with momentum, and client models are averaged
every few rounds.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Cohort, Examples
from fedjax_sl.data.cohort import take
from fedjax_sl.federation.aggregation import broadcast, weighted_mean
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import ClientMap, Each
from fedjax_sl.federation.split_grad import split_grad
from fedjax_sl.models.split import SplitModel, Variables


class Plain(NamedTuple):
    """The state: models and momenta, those of clients with leaves `[K, ...]`."""

    round: jax.Array
    client: Variables
    client_opt: Any
    server: Variables
    server_opt: Any


def start(model: SplitModel, optimizer, clients: int, key: jax.Array) -> Plain:
    """Returns the initial state, with all client models equal."""
    params = model.init(key)
    client = broadcast(params.client, clients)
    return Plain(
        jnp.int32(0),
        client,
        jax.vmap(optimizer.init)(client["params"]),
        params.server,
        optimizer.init(params.server["params"]),
    )


def round_of(
    model: SplitModel,
    optimizer,
    over: ClientMap,
    interval: int,
    state: Plain,
    cohort: Cohort,
) -> Plain:
    """Runs one round."""
    weights = jnp.full(len(cohort.client_id), 1 / len(cohort.client_id))
    cut = Cut(up=lambda x: (x, None), down=lambda grad, _: (grad, None))

    def step(grad, opt, params):
        updates, opt = optimizer.update(grad, opt, params)
        return optax.apply_updates(params, updates), opt

    def group(each: Each, server: Variables, examples: Examples, real, own):
        client, client_opt, index, weight, share = own
        share = jnp.where(real, share, 0.0)
        batch = take(examples, index, weight)
        found = split_grad(model, client, server, batch, share, cuts=[cut], each=each)
        params, opt = each(step)(found.client, client_opt, client["params"])
        return found.server, ({**client, "params": params}, opt)

    own = (
        state.client,
        state.client_opt,
        cohort.index[:, 0],
        cohort.weight[:, 0],
        weights,
    )
    grad, (client, client_opt) = over.fold(group, state.server, cohort.examples)(own)
    params, server_opt = step(grad, state.server_opt, state.server["params"])
    client = jax.lax.cond(
        (state.round + 1) % interval == 0,
        lambda c: broadcast(weighted_mean(c, weights), len(weights)),
        lambda c: c,
        client,
    )
    return Plain(
        state.round + 1,
        client,
        client_opt,
        {**state.server, "params": params},
        server_opt,
    )
