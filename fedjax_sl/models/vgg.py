"""VGG-11/13/16/19 for small images, cut after any convolution.

The cut L_c counts convolutions and lies after the block's pooling where it ends a block
(reconstructed: the published text of arXiv 2412.06414 was not available, and with this
reading L_c = 4, 8, 12, 16 are the ends of VGG-19's blocks; the alternative, before the
pooling, sends activations four times as large).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from fedjax_sl.checks import check_choice, check_integer, check_number
from fedjax_sl.errors import InputError
from fedjax_sl.layers.batch_norm import BatchNorm
from fedjax_sl.layers.conv import Conv, Lowering, Precision
from fedjax_sl.layers.group_norm import GroupNormRelu
from fedjax_sl.layers.initializers import Init, dense
from fedjax_sl.layers.pool import max_pool
from fedjax_sl.models.split import SplitModel, cut_at


Depth = Literal[11, 13, 16, 19]
Norm = Literal["group", "batch", "none"]

BLOCKS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five blocks (Simonyan and Zisserman, 2015)."""

CHANNELS = (64, 128, 256, 512, 512)
HIDDEN = 512
SMALLEST_IMAGE = 2 ** len(CHANNELS)


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
            return GroupNormRelu(self.pool, name="norm")(*conv.parts(x))
        x = conv(x)
        if self.norm == "batch":
            x = BatchNorm(name="norm")(x, train, weight)
        return nn.relu(max_pool(x) if self.pool else x)


class DenseStage(nn.Module):
    """Dense layer on the flattened input, with ReLU unless it is the last layer."""

    features: int
    last: bool
    initial: Init = "he"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the stage's activations."""
        del train
        x = dense(x.reshape(x.shape[0], -1), self.features, self.initial, "dense")
        return x if self.last else nn.relu(x)


def split_vgg(
    depth: Depth = 19,
    *,
    cut: int,
    num_classes: int = 10,
    width: float = 1.0,
    norm: Norm = "group",
    input_shape: tuple[int, int, int] = (32, 32, 3),
    lowering: Lowering = "auto",
    precision: Precision = "float32",
    init: Init = "he",
) -> SplitModel:
    """A VGG cut after convolution L_c, with a head 512-512-C.

    Args:
      depth: 11, 13, 16 or 19.
      cut: L_c, from 1 to the number of convolutions.
      num_classes: C.
      width: factor on every number of channels and hidden units.
      norm: what follows each convolution.
      input_shape: `(H, W, Ch)`, at least 32 pixels a side.
      lowering: how the convolutions are computed, see `layers.conv`.
      precision: of the convolutions' products.
      init: initialisation of its parameters, see `layers.initializers`.

    Returns:
      The split model.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("depth", depth, Depth)
    check_choice("norm", norm, Norm)
    check_choice("lowering", lowering, Lowering)
    check_choice("precision", precision, Precision)
    check_choice("init", init, Init)
    check_number("width", width, lambda v: 0 < v < float("inf"), "> 0")
    check_integer("num_classes", num_classes, 2)
    blocks = BLOCKS[depth]
    check_integer("cut", cut, 1, sum(blocks))
    if min(input_shape[:2]) < SMALLEST_IMAGE:
        raise InputError(
            f"input_shape={input_shape}: VGG halves its input {len(CHANNELS)} times "
            f"and needs images of at least {SMALLEST_IMAGE} pixels a side."
        )

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    stages: list[Callable[..., nn.Module]] = []
    for count, channels in zip(blocks, CHANNELS, strict=True):
        for position in range(1, count + 1):
            stage = partial(ConvStage, scaled(channels), norm, position == count)
            stages.append(partial(stage, lowering, precision, init))
    for features in (HIDDEN, HIDDEN):
        stages.append(partial(DenseStage, scaled(features), last=False, initial=init))
    stages.append(partial(DenseStage, num_classes, last=True, initial=init))
    return cut_at(stages, cut, input_shape=input_shape, num_classes=num_classes)
