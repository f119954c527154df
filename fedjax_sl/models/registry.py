"""Networks by name. A network of one's own: one file, and one line here.

Or no line at all: `--model.module FILE.py:FUNCTION` takes one from a file, see
`models.own_network`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from fedjax_sl.models.mlp import mlp
from fedjax_sl.models.network import Network
from fedjax_sl.models.options import Options
from fedjax_sl.models.resnet import resnet
from fedjax_sl.models.simple_cnn import simple_cnn
from fedjax_sl.models.vgg import vgg
from fedjax_sl.models.vit import vit


Name = Literal[
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "resnet18",
    "resnet34",
    "vit-tiny",
    "vit-small",
    "simple-cnn",
    "mlp",
]


class Named(NamedTuple):
    """A network that has a name.

    Attributes:
      title: display name.
      build: builds it.
      ignored: options that it has no use for.
    """

    title: str
    build: Callable[[Options], Network]
    ignored: tuple[str, ...] = ()


OF_CONVOLUTIONS = ("norm", "lowering", "precision")

NETWORKS: dict[str, Named] = {
    "vgg11": Named("VGG-11", partial(vgg, 11)),
    "vgg13": Named("VGG-13", partial(vgg, 13)),
    "vgg16": Named("VGG-16", partial(vgg, 16)),
    "vgg19": Named("VGG-19", partial(vgg, 19)),
    "resnet18": Named("ResNet-18", partial(resnet, 18)),
    "resnet34": Named("ResNet-34", partial(resnet, 34)),
    "vit-tiny": Named("ViT-Tiny", partial(vit, "tiny"), (*OF_CONVOLUTIONS, "init")),
    "vit-small": Named("ViT-Small", partial(vit, "small"), (*OF_CONVOLUTIONS, "init")),
    "simple-cnn": Named("simple CNN", simple_cnn, ("norm",)),
    "mlp": Named("perceptron", mlp, OF_CONVOLUTIONS),
}
