"""Sequential clients: the server steps after each one; a relay passes the model on.

With `server_update="sequential"` this is SplitFed v2; with
`client_update="relay"`, split learning with one client model passed from client to
client.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregation import broadcast, choose
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.fedsl.state import (
    ORDER,
    Context,
    FedSLState,
    RoundInputs,
    start_of,
)
from fedjax_sl.fedsl.step import StepReport, step


def _visiting_order(state: FedSLState, key: jax.Array) -> jax.Array:
    """Draws the order in which the slots are visited, `[K]`."""
    # Keyed by client: the order of two clients does not depend on the rest.
    draws = jax.vmap(jax.random.uniform)(client_keys(key, state.client_id, ORDER))
    return jnp.argsort(draws)


def _slot(tree: Any, k: jax.Array) -> Any:
    # A slice, not an index: the step takes a group, here of one client.
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, k, 1), tree)


def _put(tree: Any, k: jax.Array, slot: Any) -> Any:
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, k, 0), tree, slot
    )


def _passed_on(
    context: Context, before: FedSLState, stepped: FedSLState, fault: jax.Array | None
) -> tuple[FedSLState, jax.Array]:
    """Passes a client's model to the next client.

    Returns:
      The stepped state with the model as it arrives, and [] whether that is valid.
    """
    # What hard pruning set to 0 is no update, and does not add to its length.
    start = start_of(context.config, before.client["params"], before.mask)
    start = {**before.client, "params": start}
    client = arrived(None if fault is None else fault[0], start, stepped.client)
    update = jax.tree.map(jnp.subtract, client["params"], start["params"])
    good = valid(update, context.config.max_update_norm) & valid(client)
    return stepped._replace(client=client), good


def sequential_step(
    context: Context, state: FedSLState, inputs: RoundInputs
) -> tuple[FedSLState, StepReport]:
    """Steps the clients sequentially; arguments and result as in `step`.

    A client starts from the server that the previous client left and, in a relay, from
    its client model too. Absent clients are skipped. In a relay, a client whose model
    arrives invalid is skipped too: the next client receives the model that it had. If
    weights are not restored, the last client's pruned weights are passed on as zeros.
    """
    relay = context.config.client_update == "relay"
    # Each visit is a cohort of one: there is nothing to group or to spread.
    alone = context._replace(over_clients=clients.scan)

    def visit(state, k):
        before = state._replace(
            client=_slot(state.client, k),
            client_opt=_slot(state.client_opt, k),
            mask=_slot(state.mask, k),
            running=_slot(state.running, k),
            client_id=_slot(state.client_id, k),
            weights=jnp.ones((1,)),  # the server's step is on this client alone
        )
        mine = inputs._replace(
            minibatch=_slot(inputs.minibatch, k),
            per_client=_slot(inputs.per_client, k),
        )
        # The step of parallel clients: of a cohort of one both are the same method.
        stepped, report = step(alone, before, mine)
        if relay:
            present = (mine.minibatch.weight > 0).any()
            arriving, good = _passed_on(context, before, stepped, mine.per_client.fault)
            good &= report.finite[0]
            # An absent client sends nothing that could be rejected.
            report = report._replace(finite=(good | ~present)[None])
            # This also undoes the server's step on that client.
            stepped = choose(present & good, arriving, before)
            passed = jax.tree.map(lambda x: x[0], stepped.client)
            # Into every slot: the next visit and the average in `predict` read it.
            client = broadcast(passed, state.weights.shape[0])
        else:
            client = _put(state.client, k, stepped.client)
        state = state._replace(
            client=client,
            client_opt=_put(state.client_opt, k, stepped.client_opt),
            running=_put(state.running, k, stepped.running),
            server=stepped.server,
            server_opt=stepped.server_opt,
        )
        return state, report

    order = _visiting_order(state, inputs.key)
    state, report = jax.lax.scan(visit, state, order)
    back = jnp.argsort(order)  # reports return to the cohort's order
    return state, jax.tree.map(lambda x: x[:, 0][back], report)
