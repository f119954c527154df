"""The global model of FedSL: what clients' models are evaluated as between rounds."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.errors import InputError
from fedjax_sl.federation.aggregation import broadcast, weighted_mean
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.fedsl.state import Context, FedSLState
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import SplitParams


def global_model(state: FedSLState) -> SplitParams:
    """The dense global model [mean_k w_{c,k}; w_s]."""
    # Not the first slot: between aggregations the clients' models differ.
    return SplitParams(weighted_mean(state.client, state.weights), state.server)


def predict(context: Context, state: FedSLState, images: jax.Array) -> jax.Array:
    """Logits of the dense global model, without dropout."""
    return context.model.predict(global_model(state), images)


def predict_pruned(context: Context, state: FedSLState, images: jax.Array) -> jax.Array:
    """Logits of the global model under one mask, at the final ratio.

    The mask ranks the scores of the last synchronisation, averaged over clients
    (reconstructed).
    """
    # Each class of devices may have its ratio; the global model has one.
    ratio = jnp.mean(jnp.asarray(context.config.prune_ratio, jnp.float32))
    params = global_model(state)
    dense = params.client["params"]
    can = prunable(context.model)
    # At the deepest cut: the global model has every layer that any client holds.
    mask = masks(context.config, can, state.importance, ratio, params=dense)
    pruned = apply_mask(dense, mask)
    params = params._replace(client={**params.client, "params": pruned})
    return context.model.predict(params, images)


def weights(state: FedSLState) -> dict[str, Any]:
    """The variables of the global model as of one network, by collection and stage.

    Raises:
      ValueError: if the halves are networks of their own, with layers of one name.
    """
    params = global_model(state)
    if shared := params.client["params"].keys() & params.server["params"].keys():
        raise InputError(
            f"{min(shared)!r} is a layer of the client's half and of the server's: "
            "expected names of their own, as of a network of stages."
        )
    return {
        name: {**params.client.get(name, {}), **params.server.get(name, {})}
        for name in {**params.client, **params.server}
    }


def with_weights(state: FedSLState, variables: dict[str, Any]) -> FedSLState:
    """Gives all clients and the server these variables of the whole network."""

    def mine(half):
        return {
            name: {stage: variables[name][stage] for stage in stages}
            for name, stages in half.items()
        }

    client = mine(state.client)
    return state._replace(
        client=broadcast(client, len(state.weights)),
        server=mine(state.server),
        anchor=client["params"],
    )


def joined(state: FedSLState) -> FedSLState:
    """Gives all clients the global model, to the bit where their models are equal."""
    # A client without weight may hold a model that is not finite.
    one = jnp.argmax(state.weights > 0)
    # A mean of gaps leaves equal models as they are: weights sum to 1 but for rounding.
    gaps = jax.tree.map(lambda x: x - x[one][None], state.client)
    mean = jax.tree.map(
        lambda x, gap: x[one] + gap, state.client, weighted_mean(gaps, state.weights)
    )
    return state._replace(client=broadcast(mean, len(state.weights)))
