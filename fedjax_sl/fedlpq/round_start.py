"""The start of a round of FedLP-Q: what is drawn, and what clients receive."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort
from fedjax_sl.federation.model_down import ModelDown
from fedjax_sl.fedlpq.client import ClientInputs, gather_inputs
from fedjax_sl.fedlpq.cohort import check_cohort
from fedjax_sl.fedlpq.download import received_model
from fedjax_sl.fedlpq.init import templates
from fedjax_sl.fedlpq.state import Context, FedLPQState
from fedjax_sl.fedlpq.traffic import Layers, layers_of


class Started(NamedTuple):
    """A round before its clients train.

    Attributes:
      layers: those of the whole network.
      each: inputs of the clients, leaves `[K, ...]`.
      owned: `[K, U]` bool, the layers that each client's network has.
      present: `[K]` int32, 0 for a padded client.
      received: variables of the whole network, as every client receives them.
      down: message of the model; None if it goes as it is.
    """

    layers: Layers
    each: ClientInputs
    owned: jax.Array
    present: jax.Array
    received: dict[str, Any]
    down: ModelDown | None


def start_round(
    context: Context, state: FedLPQState, cohort: Cohort, key: jax.Array
) -> Started:
    """Runs step 7, the download, and draws the layers of step 3.

    Args:
      context: the networks and the configuration.
      state: before the round.
      cohort: of the round.
      key: of the round.

    Returns:
      A `Started`.

    Raises:
      ValueError: if the cohort's steps are not those of local epochs.
    """
    check_cohort(context, cohort)
    layers = layers_of(templates(context), context.config.unit)
    # Which layers are kept depends on no training: it is drawn here for all.
    each = gather_inputs(context, state, cohort, key, layers=layers)
    owned = jnp.asarray(layers.owned)[each.complexity]
    present = (cohort.num_examples > 0).astype(jnp.int32)
    # A layer that no present client's network has is not sent, and so not compressed.
    loaded = dict(zip(layers.names, present @ owned > 0, strict=True))
    received, down = received_model(context, state, key, loaded=loaded)
    return Started(
        layers=layers,
        each=each,
        owned=owned,
        present=present,
        received=received,
        down=down,
    )
