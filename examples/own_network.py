"""A network of one's own: a list of Flax modules, cut after any but the last.

    fedjax-sl run --model.module examples/own_network.py:build --model.cut 2

What is pruned together, what a cut sends and what each side computes is read off the
network: nothing has to be declared.
"""

from flax import linen as nn

from fedjax_sl.layers.conv import Conv


class Residual(nn.Module):
    """`relu(x + f(x))`, f two convolutions with a norm between them."""

    features: int

    @nn.compact
    def __call__(self, x):
        """`[B, H, W, features]` -> the same shape."""
        # Flax's own convolution computes the same, on a CPU many times slower: its
        # gradients are not made for the loop over clients.
        y = nn.relu(nn.GroupNorm(4)(Conv(self.features)(x)))
        return nn.relu(x + Conv(self.features)(y))


def build(input_shape, num_classes):
    """Returns the stages of a small residual network."""
    del input_shape
    return [
        Conv(16),
        Residual(16),
        lambda x: nn.avg_pool(x, (4, 4), (4, 4)),
        Residual(16),
        lambda x: x.reshape(len(x), -1),
        nn.Dense(num_classes),
    ]
