"""What FedLP-Q takes: one client while a device has it, and all heads that are kept."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.federation.memory import bytes_of, residual_bytes
from fedjax_sl.fedlpq.config import Head
from fedjax_sl.fedlpq.heads import kept_size


COPIES = 8
"""Of the network: as received, trained, its gradient, two moments of Adam, the
displacement, its levels, and the share in the mean."""


def client_bytes(
    model: nn.Module, input_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Bytes of one client at a time: residuals of a step, and copies of the network.

    Args:
      model: the whole network, `(images, train) -> logits`.
      input_shape: `(H, W, Ch)` of one example.
      batch_size: B.

    Returns:
      M_residual + copies x M_model of `federation.memory`.
    """
    image = jax.ShapeDtypeStruct((batch_size, *input_shape), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, False), jax.random.key(0), image
    )

    def logits(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])[0]

    kept = residual_bytes(logits, variables, image)
    return kept + COPIES * bytes_of(variables)


def head_bytes(
    models: Sequence[nn.Module],
    input_shape: tuple[int, int, int],
    num_clients: int,
    head: Head,
) -> int:
    """Bytes of the private heads of all clients: on each device, and in a checkpoint.

        M_heads = 4 N H,  H the entries of the largest head

    Args:
      models: the networks, the whole one last.
      input_shape: `(H, W, Ch)` of one example.
      num_clients: N.
      head: whether they are kept.

    Returns:
      M_heads; 0 where they are reset, or where all train the whole network.
    """
    return 4 * num_clients * kept_size(models, input_shape, head)
