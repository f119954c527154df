"""End of a period: clients upload their updates, the server averages them."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation import levels
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.combine import combine
from fedjax_sl.fedsl.message import gradient_is_message
from fedjax_sl.fedsl.model_step import next_model
from fedjax_sl.fedsl.state import (
    NOISE,
    UPLOAD,
    Context,
    FedSLState,
    RoundInputs,
)
from fedjax_sl.fedsl.step import StepReport
from fedjax_sl.fedsl.upload import Client, upload


def _reset(context: Context, bad: jax.Array, opt, params):
    """Re-initialises the optimiser states of clients whose update was rejected."""
    fresh = jax.vmap(context.client_optimizer(0.0).init)(params)

    def choose(new, old):
        return jnp.where(bad.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, opt)


def uploads(
    context: Context,
    state: FedSLState,
    inputs: RoundInputs,
    report: StepReport,
) -> Client:
    """Gathers what the updates of a cohort's clients are made of, leaves `[K, ...]`.

    Arguments as for `aggregate`.
    """
    per_client, key = inputs.per_client, inputs.key
    coded = gradient_is_message(context.config, per_client)
    weights = jnp.where(report.finite, state.weights, 0.0)
    # Without a message there is no fault: such a client is judged by its own state.
    fault = per_client.fault
    fault = None if fault is None else jnp.where(weights > 0, fault, 1.0)
    return Client(
        key=client_keys(key, state.client_id, UPLOAD),
        noise_key=client_keys(key, state.client_id, NOISE),
        variables=state.client,
        mask=state.mask,
        # 32 bits: the parameters already hold the effect of the quantised gradient.
        bits=jnp.where(coded, FLOAT_BITS, per_client.upload_bits),
        updates=per_client.updates,
        # Divided among those who are heard: others have weight 0.
        levels=levels.of_cohort(
            context.config.levels, per_client.updates, state.levels, weights
        ),
        residual=context.residuals.take(state.residual, state.client_id),
        weight=weights,
        fault=fault,
        own_cut=per_client.own_cut,
    )


def aggregate(
    context: Context,
    state: FedSLState,
    inputs: RoundInputs,
    report: StepReport,
) -> tuple[FedSLState, Link, jax.Array]:
    """w_c <- sum_k omega_k w_{c,k}, or a step towards it, broadcast to every client.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time, unless noise is added or updates are compressed.

    The update of a client that was not heard in the period's last round is not used,
    but the client receives the mean. An update that is invalid or too long is rejected,
    and its client's optimiser is re-initialised. Updates are relative to the client's
    start: if weights are not restored, that is 0 where it pruned.

    Running statistics of a channel are averaged over the clients that kept it. If no
    client kept it, or no update is valid, they are those of before the period.

    Args:
      context: the configuration.
      state: the state after the period's last step.
      inputs: of this round.
      report: of its step; the update of who sent activations that are not finite is
        not used.

    Returns:
      The state, all client models equal; `[K]` messages; `[K]` bool, whether the update
      is valid.
    """
    clients = uploads(context, state, inputs, report)
    coded = gradient_is_message(context.config, inputs.per_client)
    weights = clients.weight
    # Without a valid update clients return to the anchor; the server keeps its steps.
    client, (update, residual, good) = combine(
        context.over_clients,
        partial(upload, context),
        (state.anchor,),
        (clients,),
        fallback={**state.statistics, "params": state.anchor},
        trim=context.config.trim,
    )
    params, moments = next_model(
        context, state, client["params"], jnp.where(good, weights, 0.0)
    )
    client = {**client, "params": params}
    # By client, and by arrays: bits differ by class of devices and may be traced.
    message = jax.tree.map(partial(jnp.where, coded), report.gradient, update)
    everyone = broadcast(client, state.weights.shape[0])
    # Its moments may hold what made an update invalid, and would spoil the next one.
    opt = _reset(context, ~good, state.client_opt, everyone["params"])
    # The anchor stays: `begin_period` takes the next one from these models.
    after = state._replace(
        client=everyone,
        client_opt=opt,
        moments=moments,
        residual=context.residuals.put(state.residual, state.client_id, residual),
    )
    return after, message, good
