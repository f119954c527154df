"""A dense layer as a stage of a network."""

import jax
from flax import linen as nn

from fedjax_sl.layers.initializers import Init, dense


class DenseStage(nn.Module):
    """Dense layer on the flattened input, with ReLU unless it is the last layer."""

    features: int
    last: bool
    initial: Init = "he"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the stage's activations."""
        x = dense(x.reshape(x.shape[0], -1), self.features, self.initial, "dense")
        return x if self.last else nn.relu(x)
