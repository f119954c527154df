"""The small network of NIID-Bench (arXiv 2102.02079), after LeNet-5.

Two 5x5 convolutions without padding, each followed by ReLU and pooling, then three
dense layers: 62,006 parameters for images of 32 x 32 x 3 and ten classes.
"""

from functools import partial
from typing import Any

import jax
from flax import linen as nn

from fedjax_sl.layers.conv import Conv, Lowering, Precision
from fedjax_sl.layers.initializers import Init
from fedjax_sl.layers.pool import max_pool
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Options
from fedjax_sl.models.split import SplitModel


CHANNELS = (6, 16)
HIDDEN = (120, 84)
KERNEL = 5
SMALLEST_IMAGE = 16


class ValidConv(Conv):
    """A convolution without padding."""

    valid: bool = True


class PooledConvStage(nn.Module):
    """Convolution without padding, 2x2 pooling, ReLU."""

    features: int
    lowering: Lowering
    precision: Precision
    initial: Init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the stage's activations."""
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


def simple_cnn(options: Options | None = None) -> Network:
    """The simple CNN. A cut counts convolutions, 1 or 2.

    Args:
      options: of the network; it has no use for a norm.

    Returns:
      The `Network`.

    Raises:
      ValueError: if images are smaller than 16 pixels a side.
    """
    # The published numbers that it is compared with are of PyTorch's layers.
    options = options or Options(init="torch")
    options.check_image(SMALLEST_IMAGE, "the simple CNN needs")
    conv = partial(
        PooledConvStage,
        lowering=options.lowering,
        precision=options.precision,
        initial=options.init,
    )
    dense = partial(DenseStage, initial=options.init)
    hidden = [partial(dense, options.scaled(n), last=False) for n in HIDDEN]
    stages = (
        *(Stage(partial(conv, options.scaled(channels))) for channels in CHANNELS),
        *(Stage(stage, last_of_client=False) for stage in hidden),
        Stage(partial(dense, options.num_classes, last=True)),
    )
    return Network(
        stages=stages,
        input_shape=options.input_shape,
        num_classes=options.num_classes,
    )


def split_simple_cnn(*, cut: int, **options: Any) -> SplitModel:
    """The simple CNN, cut after convolution L_c.

    Args:
      cut: L_c, convolutions on the client's side, 1 or 2.
      **options: fields of `models.options.Options`; parameters begin as PyTorch's do
        unless `init` says otherwise.

    Returns:
      The split model.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    options = {"init": "torch"} | options
    return simple_cnn(Options(**options)).at(cut)
