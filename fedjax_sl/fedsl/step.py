"""One mini-batch step of every client and of the server."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.federation.aggregation import choose
from fedjax_sl.federation.clients import Each, client_keys
from fedjax_sl.federation.proximal import proximal_gradient
from fedjax_sl.fedsl.cuts import sent_at_cuts
from fedjax_sl.fedsl.message import gradient_quantized
from fedjax_sl.fedsl.passes import both_passes
from fedjax_sl.fedsl.running_scores import RunningScores, add
from fedjax_sl.fedsl.second_cut import Behind, sent_behind
from fedjax_sl.fedsl.state import (
    GRADIENT,
    Context,
    FedSLState,
    RoundInputs,
    rates,
    start_of,
)
from fedjax_sl.fedsl.statistics import learnt, statistics_kept, statistics_of
from fedjax_sl.fedsl.step_parts import Backward, Group, Local, Received, group_of
from fedjax_sl.models.split import Variables


class StepReport(NamedTuple):
    """Report of one step, one value per client.

    Attributes:
      loss: `[K]` mean loss of the mini-batch.
      activations: `[K]`, the message of the activations.
      returned: `[K]` int32, values whose gradients come back.
      back: `[K]`, the message of these gradients; None if it has a plain count.
      behind: messages at a second cut, `[K]`.
      gradient: `[K]`, message of the client's gradient.
      finite: `[K]` bool, whether the activations sent were finite; True if none were
        sent.
    """

    loss: jax.Array
    activations: Link
    returned: jax.Array
    back: Link | None
    behind: Behind
    gradient: Link
    finite: jax.Array


def _update_clients(
    context: Context, each: Each, group: Group, backward: Backward, *, local: Local
) -> tuple[Variables, Any, RunningScores | None, Link]:
    """w_k <- w_k - gamma Q_b(m_k * g_k), by the optimiser; pruned entries stay.

    A client that the server did not hear receives no gradient and does not step.
    """
    config, optimizer = context.config, context.client_optimizer(local.rate)

    def step_client(group, backward):
        client, mask, running = group.client, group.mask, group.running
        start, scored = start_of(config, client["params"], mask), running
        if running is not None:
            # Dense weights and an unmasked gradient: what is pruned may come back.
            dense, grad = client["params"], backward.gradient
            scored = add(config, running, mask, dense, grad=grad)
        # Mask before quantising: pruned entries must not enter the tensor's norm.
        grad = apply_mask(backward.gradient, mask)
        # Step 8: quantised before the optimiser, so that with I = 1 the server could
        # repeat the step from the message.
        own = group.per_client
        message = gradient_quantized(context, own, backward.key, grad, mask=mask)
        values = message.values
        if config.proximal is not None:
            # Not in the message: at the first step of a period there is no such term.
            received = start_of(config, local.anchor, mask)
            values = proximal_gradient(values, start, received, config.proximal)
        updates, new_opt = optimizer.update(values, group.client_opt, start)
        # Momentum from before the pruning would still move pruned weights.
        params = optax.apply_updates(start, apply_mask(updates, mask))
        kept = statistics_kept(context, own.own_cut, mask, client)
        new = learnt(kept, backward.statistics, statistics_of(client))
        after = ({**new, "params": params}, new_opt, scored)
        before = (client, group.client_opt, running)
        # A zero gradient is not enough: momentum and decay would move the client.
        return *choose(backward.heard, after, before), message.link

    return each(step_client)(group, backward)


def _group_step(
    context: Context, each: Each, server, examples, local, key, real, group
):
    """Runs the step of one group; returns the server's sums and the new clients."""
    # `real` is False for padding that fills up the last group.
    weight = group.minibatch.weight
    present = real & (weight > 0).any(axis=1)
    result = both_passes(
        context, each, server, examples, group=group, key=key, present=present
    )
    heard = present & result.finite
    backward = Backward(
        key=client_keys(key, group.client_id, GRADIENT),
        heard=heard,
        gradient=result.client,
        statistics=statistics_of(result.client_stats),
    )
    client, opt, running, gradient = _update_clients(
        context, each, group, backward, local=local
    )
    at_cut = sent_at_cuts(
        context.config, context.model, group.per_client.own_cut, result, weight=weight
    )
    report = StepReport(
        loss=result.loss,
        **at_cut._asdict(),
        behind=sent_behind(result),
        gradient=gradient,
        finite=result.finite,
    )
    # By what is missing: if nothing is, the server's divisor is exactly 1.
    missing = jnp.where(real & ~heard, group.weights, 0.0).sum()
    # Heard as a count: a sum of weights rounds, and may not be 0 for nobody.
    received = Received(
        result.server, statistics_of(result.server_stats), missing, heard.sum()
    )
    return received, (client, opt, running, report)


def _update_server(context: Context, state: FedSLState, received: Received, rate):
    """w_s <- w_s - gamma sum_k omega_k g_{s,k}, by the optimiser.

    The gradient is renormalised by the weights of the clients heard. If there are none,
    the server does not step.
    """
    optimizer = context.server_optimizer(rate)
    params, opt = state.server["params"], state.server_opt
    # The denominator 1 avoids 0 / 0; the step is then discarded below.
    present = jnp.where(received.missing < 1.0, 1.0 - received.missing, 1.0)
    grad = jax.tree.map(lambda g: g / present, received.gradient)
    updates, new_opt = optimizer.update(grad, opt, params)
    # A sum over groups, right only because `suited_map` leaves a single one.
    new = {**received.statistics, "params": optax.apply_updates(params, updates)}
    # A zero gradient is not enough: momentum alone would move the server.
    server, opt = choose(received.heard > 0, (new, new_opt), (state.server, opt))
    return state._replace(server=server, server_opt=opt)


def step(
    context: Context, state: FedSLState, inputs: RoundInputs
) -> tuple[FedSLState, StepReport]:
    """Every client steps; the server steps once, on all their activations.

    Both use gradients at the weights before the step, from one backward pass. A client
    with an empty mini-batch (an absent client, or a batch of padding) neither computes
    nor sends: its model, statistics and optimiser state are unchanged, bit for bit, and
    nothing else depends on it. The same holds if its activations are not finite.

    Args:
      context: model, configuration and mapping.
      state: the state, its masks set.
      inputs: of this round.

    Returns:
      The state after the step, and the `StepReport` of the clients.
    """
    # With I = 1 and nothing compressed a round is one SGD step on the whole network,
    # and with I > 1 it is local SGD: tests/test_reductions.py.
    client_rate, server_rate = rates(context.config, state.round)

    def step_group(each, *rest):
        return _group_step(context, each, *rest)

    proximal = context.config.proximal is not None
    local = Local(client_rate, state.anchor if proximal else None)
    shared = (state.server, inputs.examples, local, inputs.key)
    # A fold, not a map: the server's gradients are summed, and never stacked by client.
    folded = context.over_clients.fold(step_group, *shared)
    received, (client, opt, running, report) = folded(group_of(state, inputs))
    state = _update_server(context, state, received, server_rate)
    return state._replace(client=client, client_opt=opt, running=running), report
