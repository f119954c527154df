"""VGG-11/13/16/19 for small images, cut after any convolution.

The cut L_c counts convolutions and lies after the block's pooling where it ends a block
(reconstructed: the published text of arXiv 2412.06414 was not available, and with this
reading L_c = 4, 8, 12, 16 are the ends of VGG-19's blocks; the alternative, before the
pooling, sends activations four times as large).
"""

from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from fedjax_sl.checks import check_choice
from fedjax_sl.layers.batch_norm import BatchNorm
from fedjax_sl.layers.conv import Conv, Lowering, Precision
from fedjax_sl.layers.group_norm import GroupNorm
from fedjax_sl.layers.initializers import Init
from fedjax_sl.layers.pool import max_pool
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Norm, Options
from fedjax_sl.models.split import SplitModel


Depth = Literal[11, 13, 16, 19]

BLOCKS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five blocks (Simonyan and Zisserman, 2015)."""

CHANNELS = (64, 128, 256, 512, 512)
# Two hidden layers, so that VGG-19 keeps three dense ones (reconstructed).
HIDDEN = 512


class ConvStage(nn.Module):
    """Convolution, norm, pooling at the end of a block, ReLU.

    Pooling and ReLU commute; this order leaves the ReLU a quarter of the work.
    """

    features: int
    norm: Norm
    pool: bool
    lowering: Lowering
    precision: Precision = "float32"
    initial: Init = "he"

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Returns the stage's activations; `weight` `[B]` is 0 for padding."""
        check_choice("norm", self.norm, Norm)
        conv = Conv(
            self.features,
            lowering=self.lowering,
            precision=self.precision,
            initial=self.initial,
            name="conv",
        )
        if self.norm == "group":
            # Fused with the bias: on a CPU, passes over activations are what costs.
            return GroupNorm(self.pool, name="norm")(*conv.parts(x))
        x = conv(x)
        if self.norm == "batch":
            x = BatchNorm(name="norm")(x, train, weight)
        return nn.relu(max_pool(x) if self.pool else x)


def vgg(depth: Depth = 19, options: Options | None = None) -> Network:
    """A VGG with a head 512-512-C.

    Args:
      depth: 11, 13, 16 or 19. A cut counts convolutions, from 1 to all of them.
      options: of the network.

    Returns:
      The `Network`.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("depth", depth, Depth)
    options = options or Options()
    options.check_image(
        2 ** len(CHANNELS), f"VGG halves its input {len(CHANNELS)} times and needs"
    )
    stages: list[Stage] = []
    for count, channels in zip(BLOCKS[depth], CHANNELS, strict=True):
        for position in range(1, count + 1):
            stage = partial(
                ConvStage,
                options.scaled(channels),
                options.norm,
                position == count,
                lowering=options.lowering,
                precision=options.precision,
                initial=options.init,
            )
            stages.append(Stage(stage))
    dense = partial(DenseStage, initial=options.init)
    for features in (HIDDEN, HIDDEN):
        hidden = partial(dense, options.scaled(features), last=False)
        # L_c counts convolutions, and so none of the places between dense layers.
        stages.append(Stage(hidden, last_of_client=False))
    stages.append(Stage(partial(dense, options.num_classes, last=True)))
    return Network(
        stages=tuple(stages),
        input_shape=options.input_shape,
        num_classes=options.num_classes,
    )


def split_vgg(depth: Depth = 19, *, cut: int, **options: Any) -> SplitModel:
    """A VGG cut after convolution L_c.

    Args:
      depth: 11, 13, 16 or 19.
      cut: L_c, from 1 to the number of convolutions.
      **options: fields of `models.options.Options`.

    Returns:
      The split model.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    return vgg(depth, Options(**options)).at(cut)
