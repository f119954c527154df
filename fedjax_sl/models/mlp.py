"""A perceptron of two hidden layers, cut after either."""

from functools import partial

from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Options


HIDDEN = (512, 256)


def mlp(options: Options | None = None) -> Network:
    """Dense layers of 512, 256 and C units, with ReLU between them.

    Args:
      options: of the network; it has no use for norm, lowering and precision.

    Returns:
      The `Network`.
    """
    options = options or Options()
    dense = partial(DenseStage, initial=options.init)
    hidden = [Stage(partial(dense, options.scaled(n), last=False)) for n in HIDDEN]
    return Network(
        stages=(*hidden, Stage(partial(dense, options.num_classes, last=True))),
        input_shape=options.input_shape,
        num_classes=options.num_classes,
    )
