"""A network of one's own: a list of Flax modules, cut after any but the last.

    fedjax-sl run --model.module examples/own_network.py:build --model.cut 2

What is pruned together, what a cut sends and what each side computes is read off the
network: nothing has to be declared.
"""

from flax import linen as nn


class Residual(nn.Module):
    """`relu(x + f(x))`, f two convolutions with a norm between them."""

    features: int

    @nn.compact
    def __call__(self, x):
        """`[B, H, W, features]` -> the same shape."""
        y = nn.Conv(self.features, (3, 3))(x)
        y = nn.relu(nn.GroupNorm(4)(y))
        return nn.relu(x + nn.Conv(self.features, (3, 3))(y))


def build(input_shape, num_classes):
    """Returns the stages of a small residual network."""
    del input_shape
    return [
        nn.Conv(16, (3, 3)),
        Residual(16),
        Residual(16),
        lambda x: x.mean(axis=(1, 2)),
        nn.Dense(num_classes),
    ]
