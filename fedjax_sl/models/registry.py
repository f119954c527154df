"""Networks by name. A network of one's own: one file, and one line here.

Or no line at all: `--model.module FILE.py:FUNCTION` takes a network from a file.
"""

import importlib.util
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flax import linen as nn

from fedjax_sl.errors import InputError
from fedjax_sl.models.mlp import mlp
from fedjax_sl.models.network import Network, Stage, network
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
      build: builds it.
      ignored: options that it has no use for.
    """

    build: Callable[[Options], Network]
    ignored: tuple[str, ...] = ()


OF_CONVOLUTIONS = ("norm", "lowering", "precision")

NETWORKS: dict[str, Named] = {
    "vgg11": Named(partial(vgg, 11)),
    "vgg13": Named(partial(vgg, 13)),
    "vgg16": Named(partial(vgg, 16)),
    "vgg19": Named(partial(vgg, 19)),
    "resnet18": Named(partial(resnet, 18)),
    "resnet34": Named(partial(resnet, 34)),
    "vit-tiny": Named(partial(vit, "tiny"), (*OF_CONVOLUTIONS, "init")),
    "vit-small": Named(partial(vit, "small"), (*OF_CONVOLUTIONS, "init")),
    "simple-cnn": Named(simple_cnn, ("norm",)),
    "mlp": Named(mlp, OF_CONVOLUTIONS),
}


def _function(module: str) -> Callable[..., Any]:
    """Loads `FILE.py:FUNCTION`."""
    file, _, name = module.rpartition(":")
    if not file or not name:
        raise InputError(f"module={module!r}: expected 'FILE.py:FUNCTION'.")
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"module={module!r}: there is no file {file}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"module={module!r}: {file} is no Python file.")
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except Exception as error:
        raise InputError(
            f"module={module!r}: {file} raised {type(error).__name__}: {error}"
        ) from error
    function = getattr(loaded, name, None)
    if not callable(function):
        raise InputError(f"module={module!r}: {file} has no function {name}.")
    return function


def own_network(module: str, input_shape: tuple[int, int, int], num_classes: int):
    """Builds the network that a function in a file returns.

    Args:
      module: `FILE.py:FUNCTION`. The function is called as
        `function(input_shape=(H, W, Ch), num_classes=C)` and returns what
        `models.network.network` takes, or its `Network`.
      input_shape: `(H, W, Ch)` of one example.
      num_classes: C.

    Returns:
      The `Network`.

    Raises:
      ValueError: if there is no such function, or if it does not return a network.
    """
    function = _function(module)
    try:
        parts = function(input_shape=input_shape, num_classes=num_classes)
    except TypeError as error:
        raise InputError(
            f"module={module!r}: expected a function of input_shape and num_classes: "
            f"{error}"
        ) from error
    if isinstance(parts, Network):
        return parts
    if isinstance(parts, nn.Module | Stage) or not isinstance(parts, Iterable):
        raise InputError(
            f"module={module!r}: it returned a {type(parts).__name__}; expected a list "
            "of Flax modules, between which the network may be cut."
        )
    return network(parts, input_shape=input_shape, num_classes=num_classes)
