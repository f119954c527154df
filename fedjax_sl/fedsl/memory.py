"""What one client of FedSL takes while a device has it."""

import jax
import jax.numpy as jnp

from fedjax_sl.federation.memory import bytes_of, residual_bytes
from fedjax_sl.models.split import SplitModel, apply


COPIES = 6
"""Of the client model: itself, pruned, its gradient, quantised, momentum, mask."""


def client_bytes(model: SplitModel, batch_size: int) -> int:
    """Bytes of one client at a time: residuals of both halves, and its copies.

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
    server = of_server(2 * batch_size) - of_server(batch_size)  # its weights are shared
    return client + server + COPIES * bytes_of(params.client)
