"""A network of a user's own, from a function in a file."""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.errors import InputError
from fedjax_sl.models.network import Network, Stage, network
from fedjax_sl.models.split import apply


LOADING = threading.Lock()
"""Held while a file is executed."""


def file_of(module: str) -> Path:
    """Returns the file of `FILE.py:FUNCTION`.

    Raises:
      ValueError: if it is no such text, or if there is no such file.
    """
    file, _, name = module.rpartition(":")
    if not file or not name:
        raise InputError(f"module={module!r}: expected 'FILE.py:FUNCTION'.")
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"module={module!r}: there is no file {file}.")
    return path


def _raised(module: str, where: str, error: Exception) -> InputError:
    said = next(iter(str(error).strip().splitlines()), "")
    return InputError(
        f"module={module!r}: {where} raised {type(error).__name__}: {said}"
    )


def _function(module: str) -> Callable[..., Any]:
    """Loads `FILE.py:FUNCTION`."""
    path, name = file_of(module), module.rpartition(":")[2]
    # A name of its own: a file called as a package is must not take its place.
    own = f"fedjax_sl_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(own, path)
    if spec is None or spec.loader is None:
        raise InputError(f"module={module!r}: {path} is no Python file.")
    loaded = importlib.util.module_from_spec(spec)
    beside = str(path.parent.resolve())
    # Programs are traced in several threads: one executes the file at a time.
    with LOADING:
        # Dataclasses look their module up there; files beside it may be imported.
        sys.modules[spec.name] = loaded
        sys.path.insert(0, beside)
        try:
            spec.loader.exec_module(loaded)
        except Exception as error:
            raise _raised(module, str(path), error) from error
        finally:
            sys.path.remove(beside)
    function = getattr(loaded, name, None)
    if not callable(function):
        raise InputError(f"module={module!r}: {path} has no function {name}.")
    return function


def _check(module: str, found: Network) -> None:
    """Rejects a network that cannot be trained, or whose cuts send no arrays."""
    weight, classes = jnp.ones(2), found.num_classes

    def run(key, x):
        variables = dict(found.whole.init(key, x, False))
        return variables, apply(found.whole, variables, x, weight, train=True)

    # Two images: with one, a network that loses the axis of examples might pass.
    x = jax.ShapeDtypeStruct((2, *found.input_shape), jnp.float32)
    try:
        variables, (logits, changed) = jax.eval_shape(run, jax.random.key(0), x)
        cuts = [found.at(cut) for cut in found.cuts]
        sent = [jax.eval_shape(model.activations, jax.random.key(0)) for model in cuts]
    except Exception as error:
        raise _raised(module, "the network", error) from error
    single = all(isinstance(y, jax.ShapeDtypeStruct) for y in (logits, *sent))
    if not single or logits.shape != (2, classes):
        given = getattr(logits, "shape", type(logits).__name__)
        raise InputError(
            f"module={module!r}: of two images the network makes {given}; expected "
            f"logits of shape {(2, classes)}, and an array between two stages."
        )
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves((variables, changed, sent))}
    # Traffic is counted as 32 bits a value where nothing is compressed.
    if kinds - {"float32"}:
        raise InputError(
            f"module={module!r}: parameters and activations at the cuts are "
            f"{' and '.join(sorted(kinds))}; expected float32."
        )


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
      ValueError: if there is no such function, if it does not return a network, or if
        that returns no logits of C classes.
    """
    function = _function(module)
    try:
        parts = function(input_shape=input_shape, num_classes=num_classes)
    except Exception as error:
        where = "its call with input_shape and num_classes"
        raise _raised(module, where, error) from error
    if not isinstance(parts, Network):
        # A stage is a tuple and a text has letters: both are iterable, and no network.
        if isinstance(parts, nn.Module | Stage | str) or not isinstance(
            parts, Iterable
        ):
            raise InputError(
                f"module={module!r}: it returned a {type(parts).__name__}; expected a "
                "list of Flax modules, between which the network may be cut."
            )
        parts = network(parts, input_shape=input_shape, num_classes=num_classes)
    _check(module, parts)
    return parts
