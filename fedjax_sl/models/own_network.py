"""A network of a user's own, from a function in a file."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flax import linen as nn

from fedjax_sl.errors import InputError
from fedjax_sl.models.network import Network, Stage, network


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


def own_network(
    module: str, input_shape: tuple[int, int, int], num_classes: int
) -> Network:
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
