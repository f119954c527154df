"""ResNet-18 and ResNet-34 for small images, cut before or after any residual block.

The first convolution is 3x3 without stride or pooling, as He et al. (2016) have it for
CIFAR; the blocks are those of ImageNet's networks, of 64 to 512 channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from fedjax_sl.checks import check_choice
from fedjax_sl.layers.batch_norm import BatchNorm
from fedjax_sl.layers.conv import Conv
from fedjax_sl.layers.group_norm import GroupNorm
from fedjax_sl.layers.initializers import dense
from fedjax_sl.layers.relu import relu
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Options


Depth = Literal[18, 34]

BLOCKS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of two convolutions with each number of channels (He et al., 2016)."""

CHANNELS = (64, 128, 256, 512)


class NormedConv(nn.Module):
    """A convolution and its norm, and ReLU if there is to be one."""

    features: int
    options: Options
    size: int = 3
    stride: int = 1
    relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weight: jax.Array | None):
        """Returns `[B, H / stride, W / stride, features]`."""
        options = self.options
        conv = Conv(
            self.features,
            size=self.size,
            stride=self.stride,
            lowering=options.lowering,
            precision=options.precision,
            initial=options.init,
            name="conv",
        )
        if options.norm == "group":
            # Fused, see `layers.group_norm`.
            return GroupNorm(relu=self.relu, name="norm")(*conv.parts(x))
        x = conv(x)
        if options.norm == "batch":
            x = BatchNorm(name="norm")(x, train, weight)
        return relu(x) if self.relu else x


class Stem(nn.Module):
    """The first convolution, its norm, ReLU."""

    features: int
    options: Options

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Returns the stage's activations; `weight` `[B]` is 0 for padding."""
        first = NormedConv(self.features, self.options, relu=True, name="first")
        return first(x, train, weight)


class ResidualBlock(nn.Module):
    """`relu(x + f(x))`, f two convolutions with norms; 1x1 on x if shapes differ."""

    features: int
    stride: int
    options: Options

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Returns the block's activations; `weight` `[B]` is 0 for padding."""
        conv = partial(NormedConv, self.features, self.options)
        first = conv(stride=self.stride, relu=True, name="first")
        # No ReLU before the sum: a block could else only add to its input.
        y = conv(name="second")(first(x, train, weight), train, weight)
        # A projection only where shapes differ, as option B of He et al. has it.
        if x.shape != y.shape:
            shortcut = conv(size=1, stride=self.stride, name="shortcut")
            x = shortcut(x, train, weight)
        return relu(x + y)


class PooledHead(nn.Module):
    """Mean over all pixels, then the logits."""

    num_classes: int
    options: Options

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[B, C]`."""
        pooled = x.mean(axis=(1, 2))
        return dense(pooled, self.num_classes, self.options.init, "dense")


def resnet(depth: Depth = 18, options: Options | None = None) -> Network:
    """A ResNet of basic blocks.

    Args:
      depth: 18 or 34. Layers that a cut counts are convolutions on the main path: 1,
        and 2 in each block.
      options: of the network.

    Returns:
      The `Network`.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("depth", depth, Depth)
    options = options or Options()
    options.check_image(2 ** (len(CHANNELS) - 1), "ResNet halves its input and needs")
    stem: Callable[..., nn.Module] = partial(Stem, options.scaled(CHANNELS[0]), options)
    stages = [Stage(stem)]
    for number, (count, channels) in enumerate(
        zip(BLOCKS[depth], CHANNELS, strict=True)
    ):
        for position in range(count):
            stride = 2 if number > 0 and position == 0 else 1
            block = partial(ResidualBlock, options.scaled(channels), stride, options)
            stages.append(Stage(block, layers=2))
    stages.append(Stage(partial(PooledHead, options.num_classes, options)))
    return Network(
        stages=tuple(stages),
        input_shape=options.input_shape,
        num_classes=options.num_classes,
    )
