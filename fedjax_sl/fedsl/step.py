"""One mini-batch step of every client and of the server."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Batch
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.split_grad import SplitGrad, split_grad
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.cut import cut_with_dropout
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import GRADIENT, FedSLState, Setup, rates


class Crossed(NamedTuple):
    """What a step reports of each client.

    Attributes:
      loss: `[K]` mean loss of its batch.
      activations: `[K]` int32, numbers that it sent over the cut.
    """

    loss: jax.Array
    activations: jax.Array


def _update_clients(
    setup: Setup, state: FedSLState, result: SplitGrad, settings: Settings, key
) -> FedSLState:
    """w_k <- w_k - gamma Q_b(m_k * g_k), by the optimiser; pruned entries stay."""
    optimizer = setup.client_optimizer(rates(setup.config, state.round)[0])

    def one(key, grad, mask, bits, opt, params):
        grad = quantized(setup.config, key, apply_mask(grad, mask), bits)
        updates, opt = optimizer.update(apply_mask(grad, mask), opt, params)
        return optax.apply_updates(params, apply_mask(updates, mask)), opt

    params, opt = jax.vmap(one)(
        client_keys(key, state.client_id, GRADIENT),
        result.client,
        state.mask,
        settings.grad_bits,
        state.client_opt,
        state.client["params"],
    )
    client = {**result.client_stats, "params": params}
    return state._replace(client=client, client_opt=opt)


def _update_server(setup: Setup, state: FedSLState, result: SplitGrad) -> FedSLState:
    """w_s <- w_s - gamma sum_k omega_k g_{s,k}, by the optimiser."""
    optimizer = setup.server_optimizer(rates(setup.config, state.round)[1])
    params = state.server["params"]
    updates, opt = optimizer.update(result.server, state.server_opt, params)
    params = optax.apply_updates(params, updates)
    server = {**result.server_stats, "params": params}
    return state._replace(server=server, server_opt=opt)


def _activations_sent(setup: Setup, mask: jax.Array, batch: Batch) -> jax.Array:
    """`[K]` activations kept, of those examples that are not padding."""
    shape = (*batch.weight.shape, *setup.model.cut_shape())
    real = (batch.weight > 0).reshape(*batch.weight.shape, *[1] * (len(shape) - 2))
    sent = jnp.broadcast_to(mask & real, shape)
    return sent.sum(axis=tuple(range(1, sent.ndim)))


def step(
    setup: Setup, state: FedSLState, batch: Batch, settings: Settings, key: jax.Array
) -> tuple[FedSLState, Crossed]:
    """Every client steps; the server steps once, on all their activations.

    Both use gradients at the weights before the step, from one backward pass.

    Args:
      setup: model, configuration and mapping.
      state: the state, its masks set.
      batch: leaves `[K, B, ...]`.
      settings: `[K]` each.
      key: of this round.

    Returns:
      The state after the step, and what crossed.
    """
    pruned = jax.vmap(apply_mask)(state.client["params"], state.mask)
    result = split_grad(
        setup.model,
        {**state.client, "params": pruned},
        state.server,
        batch,
        state.weights,
        cut=cut_with_dropout(setup.config, settings, state.client_id, key),
        over_clients=setup.over_clients,
    )
    state = _update_clients(setup, state, result, settings, key)
    state = _update_server(setup, state, result)
    sent = _activations_sent(setup, result.at_cut, batch)
    return state, Crossed(result.loss, sent)
