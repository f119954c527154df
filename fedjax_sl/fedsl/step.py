"""One mini-batch step of every client and of the server."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Examples
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.data.cohort import take
from fedjax_sl.federation.clients import Each, client_keys
from fedjax_sl.federation.split_grad import SplitGrad, split_grad
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.cut import cut_with_dropout
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import GRADIENT, FedSLState, Places, Setup, rates
from fedjax_sl.fedsl.widths import Widths, tensor_bits, widths
from fedjax_sl.models.split import Variables


class Crossed(NamedTuple):
    """What a step reports of each client.

    Attributes:
      loss: `[K]` mean loss of its batch.
      activations: `[K]` int32, numbers that it sent over the cut.
      gradient: `[K]`, bits of the numbers of its quantised gradient.
      finite: `[K]` bool, whether what it sent was.
    """

    loss: jax.Array
    activations: jax.Array
    gradient: Widths
    finite: jax.Array


class _Group(NamedTuple):
    """What belongs to the clients of a group, leaves `[G, ...]`."""

    client: Variables
    client_opt: Any
    mask: Any
    client_id: jax.Array
    weights: jax.Array
    places: Places
    settings: Settings


def _update_clients(
    setup: Setup, each: Each, group: _Group, result: SplitGrad, rate, key
) -> tuple[Variables, Any, Widths]:
    """w_k <- w_k - gamma Q_b(m_k * g_k), by the optimiser; pruned entries stay."""
    optimizer = setup.client_optimizer(rate)

    def one(key, grad, mask, bits, opt, params):
        grad = apply_mask(grad, mask)
        bits = tensor_bits(setup.config, grad, bits)
        coded = apply_mask(quantized(setup.config, key, grad, bits), mask)
        updates, opt = optimizer.update(coded, opt, params)
        params = optax.apply_updates(params, apply_mask(updates, mask))
        return params, opt, widths(bits, mask, grad)

    params, opt, sent = each(one)(
        client_keys(key, group.client_id, GRADIENT),
        result.client,
        group.mask,
        group.settings.grad_bits,
        group.client_opt,
        group.client["params"],
    )
    return {**result.client_stats, "params": params}, opt, sent


def _activations_sent(setup: Setup, mask: jax.Array, weight: jax.Array) -> jax.Array:
    """`[G]` activations kept, of those examples that are not padding."""
    shape = (*weight.shape, *setup.model.cut_shape())
    real = (weight > 0).reshape(*weight.shape, *[1] * (len(shape) - 2))
    sent = jnp.broadcast_to(mask & real, shape)
    return sent.sum(axis=tuple(range(1, sent.ndim)))


def _group_step(setup: Setup, each: Each, server, examples, rate, key, real, group):
    """The step of a group: its term of the server's gradient, and its clients after."""
    pruned = each(apply_mask)(group.client["params"], group.mask)
    result = split_grad(
        setup.model,
        {**group.client, "params": pruned},
        server,
        take(examples, *group.places),
        jnp.where(real, group.weights, 0.0),
        cut=cut_with_dropout(setup.config, group.settings, group.client_id, key),
        each=each,
    )
    client, opt, gradient = _update_clients(setup, each, group, result, rate, key)
    sent = _activations_sent(setup, result.at_cut, group.places.weight)
    crossed = Crossed(result.loss, sent, gradient, result.finite)
    statistics = {k: v for k, v in result.server_stats.items() if k != "params"}
    missing = jnp.where(real & ~result.finite, group.weights, 0.0).sum()
    return (result.server, statistics, missing), (client, opt, crossed)


def _update_server(setup: Setup, state: FedSLState, grad, statistics, missing, rate):
    """w_s <- w_s - gamma sum_k omega_k g_{s,k}, by the optimiser.

    The weights of those who sent something that is not finite are missing in the sum.
    """
    optimizer = setup.server_optimizer(rate)
    params = state.server["params"]
    present = jnp.where(missing < 1.0, 1.0 - missing, 1.0)
    grad = jax.tree.map(lambda g: g / present, grad)
    updates, opt = optimizer.update(grad, state.server_opt, params)
    params = optax.apply_updates(params, updates)
    return state._replace(server={**statistics, "params": params}, server_opt=opt)


def step(
    setup: Setup,
    state: FedSLState,
    examples: Examples,
    places: Places,
    settings: Settings,
    key: jax.Array,
) -> tuple[FedSLState, Crossed]:
    """Every client steps; the server steps once, on all their activations.

    Both use gradients at the weights before the step, from one backward pass.

    Args:
      setup: model, configuration and mapping.
      state: the state, its masks set.
      examples: of all clients.
      places: the clients' mini-batches.
      settings: `[K]` each.
      key: of this round.

    Returns:
      The state after the step, and what crossed.
    """
    client_rate, server_rate = rates(setup.config, state.round)
    group = _Group(
        state.client,
        state.client_opt,
        state.mask,
        state.client_id,
        state.weights,
        places,
        settings,
    )

    def one(each, *rest):
        return _group_step(setup, each, *rest)

    shared = (state.server, examples, client_rate, key)
    (grad, statistics, missing), (client, opt, crossed) = setup.over_clients.fold(
        one, *shared
    )(group)
    state = _update_server(setup, state, grad, statistics, missing, server_rate)
    return state._replace(client=client, client_opt=opt), crossed
