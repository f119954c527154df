"""Memory of FedSL: of one client on a device, and of all residuals that are kept."""

import jax
import jax.numpy as jnp

from fedjax_sl.federation.memory import bytes_of, residual_bytes
from fedjax_sl.federation.residuals import first_residuals
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.split import SplitModel, apply


COPIES = 8
"""Copies of the client model: dense, pruned, gradient, quantised, two moments of Adam,
mask, scores."""


def client_bytes(model: SplitModel, batch_size: int) -> int:
    """Estimates the bytes of one client: residuals of all layers, and model copies.

    Args:
      model: the split model.
      batch_size: B.

    Returns:
      M_residual + copies x M_model of `federation.memory`.
    """
    params = model.shapes
    image = jax.ShapeDtypeStruct((batch_size, *model.input_shape), jnp.float32)

    def through(half):
        return lambda variables, x: apply(half, variables, x, train=True)[0]

    def of_server(examples):
        cut = jax.ShapeDtypeStruct((examples, *model.cut_shape()), jnp.float32)
        return residual_bytes(through(model.server), params.server, cut)

    head, tail = model.parts(params.client)
    client = residual_bytes(through(model.client), head, image)
    if model.tail is not None:
        shape = (batch_size, *model.tail_shape())
        features = jax.ShapeDtypeStruct(shape, jnp.float32)
        client += residual_bytes(through(model.tail), tail, features)
    # The difference leaves out the server's weights, which clients share.
    server = of_server(2 * batch_size) - of_server(batch_size)
    return client + server + COPIES * bytes_of(params.client)


def feedback_bytes(model: SplitModel, config: FedSLConfig, num_clients: int) -> int:
    """Counts the bytes of all residuals, in their store and in a checkpoint.

        M_feedback = N M_client,  M_client the bytes of a client's parameters

    Args:
      model: the split model.
      config: whether updates have feedback.
      num_clients: N.

    Returns:
      M_feedback; 0 without feedback.
    """
    params = model.shapes.client["params"]
    # Shapes of one client: arrays of all N may be what does not fit.
    one = jax.eval_shape(lambda tree: first_residuals(config.updates, tree, 1), params)
    return num_clients * bytes_of(one)
