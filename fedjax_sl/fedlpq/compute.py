"""What clients computed in one round."""

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Work
from fedjax_sl.fedlpq.state import Setup
from fedjax_sl.models.cost import layer_costs


def work(setup: Setup, complexity: jax.Array, weight: jax.Array) -> Work:
    """Multiplications of one round, per client of the cohort; the server does none.

    Layers are pruned from what is sent, not from what is trained: only a smaller
    network takes less.

    Args:
      setup: the networks.
      complexity: `[K]`, which of them each client trains.
      weight: `[K, S, B]`, 0 for padding.

    Returns:
      A `Work`.
    """
    macs = [
        sum(layer.macs for layer in layer_costs(model, setup.input_shape))
        for model in setup.models
    ]
    examples = (weight > 0).sum(axis=(1, 2)).astype(jnp.float32)
    done = examples * jnp.array(macs, jnp.float32)[complexity]
    return Work(client=done, server=jnp.zeros_like(done))
