"""The six-convolution network of FedLP, and its sub-models for weaker devices.

A sub-model of complexity c has the first c + 1 convolutions and a private head. Its
other layers have the names of the whole network's layers, and are shared with it.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.checks import check_choice, check_integer, check_number
from fedjax_sl.layers.batch_norm import ReluBatchNorm
from fedjax_sl.layers.conv import Conv, Lowering, Precision
from fedjax_sl.layers.initializers import Init, dense


COMPLEXITIES = (1, 2, 3, 4, 5)

CHANNELS = (32, 32, 64, 64, 128, 128)

# All pool after their last convolution: a head would else read four times as much.
POOLED = {1: (2,), 2: (2, 3), 3: (2, 4), 4: (2, 4, 5), 5: (2, 4, 6)}
"""Convolutions, counted from 1, that are followed by 2x2 pooling, by complexity."""

HIDDEN = 128


class ConvBlock(nn.Module):
    """Convolution, ReLU, batch norm, and optional pooling."""

    features: int
    pool: bool
    lowering: Lowering
    precision: Precision = "float32"
    initial: Init = "he"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weight: jax.Array) -> jax.Array:
        """Returns the block's activations."""
        conv = Conv(
            self.features,
            lowering=self.lowering,
            precision=self.precision,
            initial=self.initial,
            name="conv",
        )
        # ReLU before the norm, as in the code of FedLP's authors.
        return ReluBatchNorm(self.pool, name="bn")(*conv.parts(x), train, weight)


class CifarCNN(nn.Module):
    """See `cifar_cnn`."""

    complexity: int
    num_classes: int
    width: float
    lowering: Lowering
    precision: Precision
    initial: Init

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Logits `[B, C]` of `[B, H, W, Ch]`; `weight` `[B]` is 0 for padding."""
        weight = jnp.ones(x.shape[0]) if weight is None else weight
        for number, channels in enumerate(CHANNELS[: self.complexity + 1], 1):
            features = max(1, round(channels * self.width))
            pool = number in POOLED[self.complexity]
            block = ConvBlock(
                features,
                pool,
                lowering=self.lowering,
                precision=self.precision,
                initial=self.initial,
                name=f"block{number}",
            )
            x = block(x, train, weight)
        # The name makes a head private: layers of the same name are shared.
        head = "fc" if self.complexity == max(COMPLEXITIES) else "private_fc"
        x = x.reshape(x.shape[0], -1)
        hidden = max(1, round(HIDDEN * self.width))
        # No ReLU in between, as in the code of FedLP's authors.
        x = dense(x, hidden, self.initial, f"{head}1")
        return dense(x, self.num_classes, self.initial, f"{head}2")


def cifar_cnn(
    *,
    complexity: int = 5,
    num_classes: int = 10,
    width: float = 1.0,
    lowering: Lowering = "auto",
    precision: Precision = "float32",
    init: Init = "he",
) -> nn.Module:
    """The network of FedLP (and of Entropy 2023, 25, 1205), or one of its sub-models.

    3x3 convolutions of 32, 32, 64, 64, 128 and 128 channels, each followed by ReLU and
    batch norm, a 2x2 pooling after every second one; then 128 hidden units, with no
    ReLU, and the logits. Complexities 1 to 4 stop after convolution 2 to 5.

    Args:
      complexity: 1 to 5, 5 being the whole network.
      num_classes: C.
      width: factor on every number of channels and hidden units.
      lowering: how the convolutions are computed, see `layers.conv`.
      precision: of the convolutions' products.
      init: initialisation of its parameters, see `layers.initializers`.

    Returns:
      A module `(images, train, weight) -> logits`.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("lowering", lowering, Lowering)
    check_choice("precision", precision, Precision)
    check_choice("init", init, Init)
    check_integer("complexity", complexity, 1, max(COMPLEXITIES))
    check_integer("num_classes", num_classes, 2)
    check_number("width", width, lambda v: 0 < v < float("inf"), "> 0")
    return CifarCNN(
        complexity,
        num_classes,
        width,
        lowering=lowering,
        precision=precision,
        initial=init,
    )
