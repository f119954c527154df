"""Memory of FedLP-Q: of one client on a device, and of what is kept of all."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.compression.layers import to_units
from fedjax_sl.federation.memory import bytes_of, residual_bytes
from fedjax_sl.federation.residuals import first_residuals
from fedjax_sl.fedlpq.config import FedLPQConfig, Head
from fedjax_sl.fedlpq.heads import kept_size
from fedjax_sl.fedlpq.submodel import template


COPIES = 8
"""Copies of the network: received, trained, gradient, two moments of Adam,
displacement, levels, and share in the mean. SGD leaves one for a control variate."""


def client_bytes(
    model: nn.Module, input_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Estimates the bytes of one client: residuals of a step, and model copies.

    Args:
      model: the whole network, `(images, train) -> logits`.
      input_shape: `(H, W, Ch)` of one example.
      batch_size: B.

    Returns:
      M_residual + copies x M_model of `federation.memory`.
    """
    image = jax.ShapeDtypeStruct((batch_size, *input_shape), jnp.float32)
    variables = template(model, input_shape)

    def logits(variables, x):
        # In training mode: a step keeps residuals that an evaluation does not.
        return model.apply(variables, x, True, mutable=["batch_stats"])[0]

    kept = residual_bytes(logits, variables, image)
    return kept + COPIES * bytes_of(variables)


def head_bytes(
    models: Sequence[nn.Module],
    input_shape: tuple[int, int, int],
    num_clients: int,
    head: Head,
) -> int:
    """Counts the bytes of all private heads, on each device and in a checkpoint.

        M_heads = 4 N H,  H the entries of the largest head

    Args:
      models: the networks, the whole one last.
      input_shape: `(H, W, Ch)` of one example.
      num_clients: N.
      head: whether they are kept.

    Returns:
      M_heads; 0 if heads are reset, or if all train the whole network.
    """
    return 4 * num_clients * kept_size(models, input_shape, head)


def feedback_bytes(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    config: FedLPQConfig,
    *,
    num_clients: int,
) -> int:
    """Counts the bytes of all residuals, in their store and in a checkpoint.

        M_feedback = N M_model,  M_model the bytes of the network's parameters

    Args:
      model: the whole network.
      input_shape: `(H, W, Ch)` of one example.
      config: whether updates have feedback.
      num_clients: N.

    Returns:
      M_feedback; 0 without feedback.
    """

    def of_one(params):
        return first_residuals(config.updates, to_units(params, by=config.unit), 1)

    one = jax.eval_shape(of_one, template(model, input_shape)["params"])
    return num_clients * bytes_of(one)


def control_bytes(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    config: FedLPQConfig,
    *,
    num_clients: int,
) -> int:
    """Counts the bytes of all clients' control variates, as `feedback_bytes` does.

        M_controls = N M_model

    Args:
      model: the network.
      input_shape: `(H, W, Ch)` of one example.
      config: whether there are any.
      num_clients: N.

    Returns:
      M_controls; 0 without.
    """
    if not config.control_variates:
        return 0
    return num_clients * bytes_of(template(model, input_shape)["params"])
