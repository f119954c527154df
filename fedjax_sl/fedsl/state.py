"""The state of FedSL, and the context that its functions share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Examples
from fedjax_sl.compression.pruning import Mask, apply_mask
from fedjax_sl.config_base import Optimizer
from fedjax_sl.federation.aggregation import weighted_mean
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.fedsl.config import ClientConfigs, FedSLConfig, usual_rates
from fedjax_sl.models.split import SplitModel, SplitParams, Variables


DROPOUT, GRADIENT, UPLOAD, DOWNLINK, SCORES, ORDER, NOISE = range(7)
"""Purposes, folded into keys so that no two draws share one."""


class FedSLState(NamedTuple):
    """State carried from round to round.

    Attributes:
      round: [] int32, t.
      client: variables of the K client models w_{c,k}, leaves `[K, ...]`.
      client_opt: their optimiser states, leaves `[K, ...]`.
      server: variables of w_s.
      server_opt: its optimiser state.
      anchor: client parameters at the last synchronisation.
      mask: m_k, leaves `[K, ...]`.
      importance: scores of the last synchronisation, averaged over clients.
      client_id: `[K]`, -1 before the first cohort.
      weights: `[K]`, omega_k.
    """

    round: jax.Array
    client: Variables
    client_opt: Any
    server: Variables
    server_opt: Any
    anchor: Any
    mask: Any
    importance: Any
    client_id: jax.Array
    weights: jax.Array


class MinibatchIndices(NamedTuple):
    """The mini-batch of each client of a cohort, as indices into the examples.

    Attributes:
      index: `[K, B]` int32.
      weight: `[K, B]` float32, 0 for padding.
    """

    index: jax.Array
    weight: jax.Array


class RoundInputs(NamedTuple):
    """What the clients of a cohort get in one round.

    Attributes:
      examples: of all clients.
      minibatch: which of them each client uses.
      per_client: parameters of each client, `[K]`.
      key: of this round.
    """

    examples: Examples
    minibatch: MinibatchIndices
    per_client: ClientConfigs
    key: jax.Array


class Context(NamedTuple):
    """Constants of a run: model, configuration, optimisers and client mapping."""

    model: SplitModel
    config: FedSLConfig
    client_optimizer: Optimizer
    server_optimizer: Optimizer
    over_clients: ClientMap


def choose(condition: jax.Array, new: Any, old: Any) -> Any:
    """Selects one of two trees, leaves `[...]`, by a condition `[]`."""
    # Both trees are already computed: a cond would save nothing.
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def start_of(config: FedSLConfig, params: Any, mask: Mask) -> Any:
    """Returns the parameters that a client starts from and its update is relative to.

    If pruned weights are not restored, they start at 0.
    """
    return params if config.restore else apply_mask(params, mask)


def rates(config: FedSLConfig, round: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Learning rates of clients and server: constant, or half a cosine down to 0."""
    # A sweep traces the number of rounds, so 0 is a branch of `where`, not of `if`.
    length = jnp.asarray(config.cosine_rounds, jnp.float32)
    progress = jnp.minimum(round / jnp.maximum(length, 1.0), 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    factor = jnp.where(length > 0, cosine, 1.0)
    client, server = usual_rates(config)
    return client * factor, server * factor


def global_model(state: FedSLState) -> SplitParams:
    """The dense global model [mean_k w_{c,k}; w_s]."""
    return SplitParams(weighted_mean(state.client, state.weights), state.server)
