"""Compressors of what crosses a wire, one file each, and their registry.

A new one is a function in a file of its own that returns a `Compressor`, and a line
here; its arguments are options if `CompressorConfig` has fields of their names.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from fedjax_sl.compressors.compressor import Compressor, Received, Wire, send
from fedjax_sl.compressors.eden import drive, eden
from fedjax_sl.compressors.error_feedback import ef21, error_feedback
from fedjax_sl.compressors.identity import identity
from fedjax_sl.compressors.natural import natural
from fedjax_sl.compressors.power_sgd import power_sgd
from fedjax_sl.compressors.qsgd import qsgd
from fedjax_sl.compressors.rand_top_k import rand_top_k
from fedjax_sl.compressors.random_k import random_k
from fedjax_sl.compressors.sign import sign
from fedjax_sl.compressors.sparse import Selection, chain
from fedjax_sl.compressors.terngrad import terngrad
from fedjax_sl.compressors.top_k import top_k
from fedjax_sl.compressors.uniform import uniform
from fedjax_sl.entry_points import installed


COMPRESSORS: dict[str, Callable[..., Compressor]] = {
    "float32": identity,
    "qsgd": qsgd,
    "uniform": uniform,
    "terngrad": terngrad,
    "sign": sign,
    "natural": natural,
    "top_k": top_k,
    "random_k": random_k,
    "rand_top_k": rand_top_k,
    "drive": drive,
    "eden": eden,
    "power_sgd": power_sgd,
}
"""Every kind by the name that a configuration gives it; a program may add its own."""

ENTRY_POINTS = "fedjax_sl.compressors"


@cache
def _installed() -> dict[str, Callable[..., Compressor]]:
    """Loads the kinds of other installed packages, by the names of entry points.

    Raises:
      ValueError: if one cannot be loaded, or has the name of another.
    """
    return installed(ENTRY_POINTS, "compressor", COMPRESSORS)


def compressors() -> dict[str, Callable[..., Compressor]]:
    """Returns every kind by name, those of other packages last."""
    return COMPRESSORS | _installed()


def compressor_names() -> Any:
    """Returns the names in the registry now, as the `Literal` of a choice."""
    return Literal[tuple(compressors())]


__all__ = [
    "COMPRESSORS",
    "Compressor",
    "Received",
    "Selection",
    "Wire",
    "chain",
    "compressor_names",
    "compressors",
    "drive",
    "ef21",
    "eden",
    "error_feedback",
    "identity",
    "natural",
    "power_sgd",
    "qsgd",
    "rand_top_k",
    "random_k",
    "send",
    "sign",
    "terngrad",
    "top_k",
    "uniform",
]
