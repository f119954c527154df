"""The small network of NIID-Bench (arXiv 2102.02079), after LeNet-5.

Two 5x5 convolutions without padding, each followed by ReLU and pooling, then three
dense layers: 62,006 parameters for images of 32 x 32 x 3 and ten classes.
"""

from collections.abc import Callable
from functools import partial

import jax
from flax import linen as nn

from fedjax_sl.checks import check_choice, check_integer, check_number
from fedjax_sl.errors import InputError
from fedjax_sl.layers.conv import Conv, Lowering, Precision
from fedjax_sl.layers.initializers import Init
from fedjax_sl.layers.pool import max_pool
from fedjax_sl.models.split import SplitModel, cut_at
from fedjax_sl.models.vgg import DenseStage


CHANNELS = (6, 16)
HIDDEN = (120, 84)
KERNEL = 5
SMALLEST_IMAGE = 16


class ValidConv(Conv):
    """A convolution without padding."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[B, H - size + 1, W - size + 1, features]`."""
        # Cut off after padding: the lowerings that are fast in a loop all pad.
        y, bias = self.parts(x)
        edge = self.size // 2
        return y[:, edge:-edge, edge:-edge] + bias.reshape(1, 1, 1, -1)


class PooledConvStage(nn.Module):
    """Convolution without padding, 2x2 pooling, ReLU."""

    features: int
    lowering: Lowering
    precision: Precision
    initial: Init

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the stage's activations."""
        del train
        conv = ValidConv(
            self.features,
            size=KERNEL,
            lowering=self.lowering,
            precision=self.precision,
            initial=self.initial,
            name="conv",
        )
        # Pooling and ReLU commute: this way the ReLU has a quarter of the work.
        return nn.relu(max_pool(conv(x)))


def split_simple_cnn(
    *,
    cut: int,
    num_classes: int = 10,
    width: float = 1.0,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    lowering: Lowering = "auto",
    precision: Precision = "float32",
    init: Init = "torch",
) -> SplitModel:
    """The simple CNN, cut after convolution L_c.

    Args:
      cut: L_c, convolutions on the client's side, 1 or 2.
      num_classes: C.
      width: factor on every number of channels and hidden units.
      input_shape: `(H, W, Ch)`, at least 16 pixels a side.
      lowering: how the convolutions are computed, see `layers.conv`.
      precision: of the convolutions' products.
      init: initialisation of its parameters, see `layers.initializers`.

    Returns:
      The split model.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("lowering", lowering, Lowering)
    check_choice("precision", precision, Precision)
    check_choice("init", init, Init)
    check_number("width", width, lambda v: 0 < v < float("inf"), "> 0")
    check_integer("num_classes", num_classes, 2)
    check_integer("cut", cut, 1, len(CHANNELS))
    if min(input_shape[:2]) < SMALLEST_IMAGE:
        raise InputError(
            f"input_shape={input_shape}: the simple CNN needs images of at least "
            f"{SMALLEST_IMAGE} pixels a side."
        )

    def scaled(units: int) -> int:
        return max(1, round(units * width))

    conv = partial(
        PooledConvStage, lowering=lowering, precision=precision, initial=init
    )
    dense = partial(DenseStage, initial=init)
    stages: list[Callable[..., nn.Module]] = [
        *(partial(conv, scaled(channels)) for channels in CHANNELS),
        *(partial(dense, scaled(units), last=False) for units in HIDDEN),
        partial(dense, num_classes, last=True),
    ]
    return cut_at(stages, cut, input_shape=input_shape, num_classes=num_classes)
