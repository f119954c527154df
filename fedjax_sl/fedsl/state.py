"""The state of FedSL, and the context that its functions share."""

from typing import Any, NamedTuple

import jax

from fedjax_sl.algorithm import Batch, Examples
from fedjax_sl.compression.pruning import Mask, apply_mask
from fedjax_sl.config_base import Optimizer
from fedjax_sl.federation.aggregator import Moments
from fedjax_sl.federation.clients import ClientMap, client_keys
from fedjax_sl.federation.levels import LevelState
from fedjax_sl.federation.stores import Store, on_device
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.running_scores import RunningScores
from fedjax_sl.fedsl.usual_rates import usual_rates
from fedjax_sl.models.split import SplitModel, Variables
from fedjax_sl.training import batch_of, rate_factor


# A new purpose goes to the end: these numbers are part of every draw of a run.
DROPOUT, GRADIENT, UPLOAD, DOWNLINK, SCORES = range(5)
ORDER, NOISE, AUGMENTATION, SCORING, ACTIVATIONS, MODEL = range(5, 11)
FEATURES, FEATURE_GRADIENTS = range(11, 13)
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
      statistics: norm statistics of a client at the last synchronisation.
      running: `RunningScores` of the clients; None if nothing is scored in steps.
      residual: what the messages of each client left out, leaves `[N, ...]`; None
        without feedback.
      model_residual: what the server's messages left out, leaves `[...]`; None without
        feedback.
      levels: of the next updates; None if they ignore the loss.
      moments: of the server's step along the mean update; None for the plain mean.
      received: `[N]` bool, clients that have received a model; None unless each keeps
        its own.
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
    statistics: Any
    # None has no leaves: a run without an option has nothing of it in a checkpoint.
    running: RunningScores | None = None
    residual: Any = None
    model_residual: Any = None
    levels: LevelState | None = None
    moments: Moments | None = None
    received: jax.Array | None = None


class MinibatchIndices(NamedTuple):
    """The mini-batch of each client of a cohort, as indices into the examples.

    Attributes:
      index: `[K, B]` int32.
      weight: `[K, B]` float32, 0 for padding.
    """

    index: jax.Array
    weight: jax.Array


class RoundInputs(NamedTuple):
    """The inputs of a cohort in one round.

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
    """Constants of a run: model, configuration, optimisers, mapping and residuals."""

    model: SplitModel
    config: FedSLConfig
    client_optimizer: Optimizer
    server_optimizer: Optimizer
    over_clients: ClientMap
    residuals: Store = on_device


def start_of(config: FedSLConfig, params: Any, mask: Mask) -> Any:
    """Returns the parameters that a client starts from and its update is relative to.

    If pruned weights are not restored, they start at 0.
    """
    return params if config.restore else apply_mask(params, mask)


def rates(config: FedSLConfig, round: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Learning rates of clients and server in a round."""
    # One factor for both sides: warm-up and cosine keep their ratio.
    factor = rate_factor(config, round)
    client, server = usual_rates(config)
    return client * factor, server * factor


def batches(
    config: FedSLConfig,
    key: jax.Array,
    examples: Examples,
    minibatch: MinibatchIndices,
    *,
    client_id: jax.Array,
) -> Batch:
    """Gathers the mini-batches of clients `[G]`, leaves `[G, B, ...]`.

    In a round, the scoring pass and the step see the same views of the images.
    """
    keys = client_keys(key, client_id, AUGMENTATION)

    def of_client(key, index, weight):
        return batch_of(config, key, examples, index, weight=weight)

    return jax.vmap(of_client)(keys, *minibatch)
