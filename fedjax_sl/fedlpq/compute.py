"""MACs of clients in one round."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.algorithm import Work
from fedjax_sl.models.cost import layer_costs


def work(
    models: Sequence[nn.Module],
    input_shape: tuple[int, ...],
    complexity: jax.Array,
    examples: jax.Array,
) -> Work:
    """MACs of one round, per client of the cohort; the server does none.

    Layers are pruned from what is sent, not from what is trained: only a smaller
    network takes less.

    Args:
      models: the networks.
      input_shape: `(H, W, Ch)`.
      complexity: `[K]`, which of them each client trains.
      examples: `[K]`, that each client sees in its local epochs, one by one.

    Returns:
      A `Work`.
    """
    macs = [
        sum(layer.macs for layer in layer_costs(model, input_shape)) for model in models
    ]
    done = examples.astype(jnp.float32) * jnp.array(macs, jnp.float32)[complexity]
    return Work(client=done, server=jnp.zeros_like(done))
