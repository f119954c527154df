"""What the parts of one step hand to each other."""

from typing import Any, NamedTuple

import jax

from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.running_scores import RunningScores
from fedjax_sl.fedsl.state import FedSLState, MinibatchIndices, RoundInputs
from fedjax_sl.models.split import Variables


class Received(NamedTuple):
    """Sums over the clients of a group that the server received activations from.

    Attributes:
      gradient: sum_k omega_k g_{s,k} over these clients.
      statistics: of the server's norms, updated with their activations.
      missing: [] total weight of the other clients.
      heard: [] int32, number of these clients.
    """

    gradient: Any
    statistics: Any
    missing: jax.Array
    heard: jax.Array


class Local(NamedTuple):
    """What the steps of all clients share.

    Attributes:
      rate: gamma.
      anchor: the model that they began the period from; None if no step needs it.
    """

    rate: jax.Array
    anchor: Any


class Group(NamedTuple):
    """Inputs of the clients of a group, leaves `[G, ...]`."""

    client: Variables
    client_opt: Any
    mask: Any
    running: RunningScores | None
    client_id: jax.Array
    weights: jax.Array
    minibatch: MinibatchIndices
    per_client: ClientConfigs


def group_of(state: FedSLState, inputs: RoundInputs) -> Group:
    """Returns the whole cohort as one group."""
    return Group(
        client=state.client,
        client_opt=state.client_opt,
        mask=state.mask,
        running=state.running,
        client_id=state.client_id,
        weights=state.weights,
        minibatch=inputs.minibatch,
        per_client=inputs.per_client,
    )


class Backward(NamedTuple):
    """The results of the backward pass for the clients of a group, leaves `[G, ...]`.

    Attributes:
      key: of the quantiser.
      heard: whether the server received valid activations.
      gradient: of the client's loss in its parameters.
      statistics: of its norms, updated.
    """

    key: jax.Array
    heard: jax.Array
    gradient: Any
    statistics: Any
