"""Clients one after another: the server steps after each, and a relay hands over.

With `server_update="sequential"` this is SplitFed version 2; with
`client_update="relay"`, split learning with one client model that is passed on.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Examples
from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.fedsl.config import ClientConfigs
from fedjax_sl.fedsl.state import (
    ORDER,
    Context,
    FedSLState,
    MinibatchIndices,
    choose,
    start_of,
)
from fedjax_sl.fedsl.step import StepReport, step


def _visiting_order(state: FedSLState, key: jax.Array) -> jax.Array:
    """`[K]` slots in the order of a draw that depends on who the clients are."""
    draws = jax.vmap(jax.random.uniform)(client_keys(key, state.client_id, ORDER))
    return jnp.argsort(draws)


def _slot(tree: Any, k: jax.Array) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, k, 1), tree)


def _put(tree: Any, k: jax.Array, one: Any) -> Any:
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, k, 0), tree, one
    )


def _handed_on(
    context: Context, before: FedSLState, stepped: FedSLState, fault: jax.Array | None
) -> tuple[FedSLState, jax.Array]:
    """The state of a client's visit with the model as it arrives; [] if it is valid."""
    start = start_of(context.config, before.client["params"], before.mask)
    start = {**before.client, "params": start}
    client = arrived(None if fault is None else fault[0], start, stepped.client)
    update = jax.tree.map(jnp.subtract, client["params"], start["params"])
    good = valid(update, context.config.max_update_norm) & valid(client)
    return stepped._replace(client=client), good


def sequential_step(
    context: Context,
    state: FedSLState,
    examples: Examples,
    minibatch: MinibatchIndices,
    per_client: ClientConfigs,
    key: jax.Array,
) -> tuple[FedSLState, StepReport]:
    """Each client in turn steps with the server; arguments and result as in `step`.

    A client sees the server as the one before left it and, in a relay, the client model
    too. Absent clients are passed over; so is, in a relay, one that would hand on what
    cannot be used: the next has the model that it had. A relay whose weights are not
    restored hands on zeros for what its last client pruned.
    """
    relay = context.config.client_update == "relay"
    alone = context._replace(over_clients=clients.scan)

    def visit(state, k):
        one = state._replace(
            client=_slot(state.client, k),
            client_opt=_slot(state.client_opt, k),
            mask=_slot(state.mask, k),
            client_id=_slot(state.client_id, k),
            weights=jnp.ones((1,)),
        )
        mine = _slot(minibatch, k), _slot(per_client, k)
        stepped, report = step(alone, one, examples, *mine, key)
        if relay:
            present = (mine[0].weight > 0).any()
            arriving, good = _handed_on(context, one, stepped, mine[1].fault)
            good &= report.finite[0]
            report = report._replace(finite=(good | ~present)[None])
            stepped = choose(present & good, arriving, one)
            handed = jax.tree.map(lambda x: x[0], stepped.client)
            client = broadcast(handed, state.weights.shape[0])
        else:
            client = _put(state.client, k, stepped.client)
        state = state._replace(
            client=client,
            client_opt=_put(state.client_opt, k, stepped.client_opt),
            server=stepped.server,
            server_opt=stepped.server_opt,
        )
        return state, report

    order = _visiting_order(state, key)
    state, report = jax.lax.scan(visit, state, order)
    back = jnp.argsort(order)
    return state, jax.tree.map(lambda x: x[:, 0][back], report)
