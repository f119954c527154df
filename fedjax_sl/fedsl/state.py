"""What FedSL carries from round to round, and the parts it is put together from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.federation.aggregation import weighted_mean
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.split import SplitModel, SplitParams, Variables


DROPOUT, GRADIENT, UPLOAD, DOWNLINK, SCORES, ORDER = range(6)
"""Purposes, folded into keys so that no two draws share one."""

Optimizer = Callable[[Any], optax.GradientTransformation]
"""A learning rate, which may be traced -> an optimiser."""


class FedSLState(NamedTuple):
    """What is carried from round to round.

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


class Setup(NamedTuple):
    """What stays the same: model, settings, optimisers, how clients are mapped."""

    model: SplitModel
    config: FedSLConfig
    client_optimizer: Optimizer
    server_optimizer: Optimizer
    over_clients: ClientMap


def optimizer_of(config: FedSLConfig) -> Optimizer:
    """The optimiser that the configuration names, as a function of the rate."""
    if config.optimizer == "adam":
        return optax.adam
    return lambda rate: optax.sgd(rate, momentum=config.momentum)


def rates(config: FedSLConfig, round: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Learning rates of clients and server: constant, or half a cosine down to 0."""
    length = jnp.asarray(config.cosine_rounds, jnp.float32)
    progress = jnp.minimum(round / jnp.maximum(length, 1.0), 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    factor = jnp.where(length > 0, cosine, 1.0)
    server = config.server_learning_rate
    if server is None:
        server = config.learning_rate
    return config.learning_rate * factor, server * factor


def client_keys(key: jax.Array, client_id: jax.Array, purpose: int) -> jax.Array:
    """One key per client, by who it is and what the key is for."""
    base = jax.random.fold_in(key, purpose)
    return jax.vmap(lambda one: jax.random.fold_in(base, one))(client_id)


def delivered(state: FedSLState) -> SplitParams:
    """The dense model [mean_k w_{c,k}; w_s]."""
    return SplitParams(weighted_mean(state.client, state.weights), state.server)
