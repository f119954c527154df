"""Memory of one FedSL client on a device."""

import jax
import jax.numpy as jnp

from fedjax_sl.federation.memory import bytes_of, residual_bytes
from fedjax_sl.models.split import SplitModel, apply


COPIES = 7
"""Copies of the client model: dense, pruned, gradient, quantised, momentum, mask,
scores."""


def client_bytes(model: SplitModel, batch_size: int) -> int:
    """Estimates the bytes of one client: residuals of both halves, and model copies.

    Args:
      model: the split model.
      batch_size: B.

    Returns:
      M_residual + copies x M_model of `federation.memory`.
    """
    params = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((batch_size, *model.input_shape), jnp.float32)

    def through(half):
        return lambda variables, x: apply(half, variables, x, train=True)[0]

    def of_server(examples):
        cut = jax.ShapeDtypeStruct((examples, *model.cut_shape()), jnp.float32)
        return residual_bytes(through(model.server), params.server, cut)

    client = residual_bytes(through(model.client), params.client, image)
    # The difference leaves out the server's weights, which clients share.
    server = of_server(2 * batch_size) - of_server(batch_size)
    return client + server + COPIES * bytes_of(params.client)
