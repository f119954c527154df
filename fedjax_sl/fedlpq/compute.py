"""MACs of clients in one round."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.algorithm import Work
from fedjax_sl.models.cost import macs


def work(
    models: Sequence[nn.Module],
    input_shape: tuple[int, ...],
    complexity: jax.Array,
    examples: jax.Array,
) -> Work:
    """Counts the MACs of one round, per client of the cohort; the server's are 0.

    Layers are skipped in the upload, not in training: only a smaller network has fewer
    MACs.

    Args:
      models: the networks.
      input_shape: `(H, W, Ch)`.
      complexity: `[K]`, index of the network that each client trains.
      examples: `[K]`, examples in each client's local epochs, with repetition.

    Returns:
      A `Work`.
    """
    of_each = [macs(model, tuple(input_shape)) for model in models]
    # float32, as in `Work`: the MACs of a round may exceed int32.
    done = examples.astype(jnp.float32) * jnp.array(of_each, jnp.float32)[complexity]
    return Work(client=done, server=jnp.zeros_like(done))
