"""Hyperparameters as arguments of a run's programs: other values compile nothing again.

In the programs of a sweep all of them are. Here those that switch a technique off stay
constants, from which the compiler removes the technique.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import jax

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.runs.build import Job


OFF = (0, 1, FLOAT_BITS)
"""No pruning, dropout or momentum; every round, or every layer; no quantisation."""


def _varies(leaf: Any) -> bool:
    return isinstance(leaf, Real) and leaf not in OFF


def arguments_of(
    job: Job,
) -> tuple[list[Real], Callable[[Sequence[Any]], Algorithm]]:
    """Returns the numbers that are arguments of a run's programs, and what takes them.

    Args:
      job: the run.

    Returns:
      The numbers, none where the method takes none; and a function from them, which may
      be traced, to the run's algorithm.
    """
    built = job.method
    with_config = built.with_config
    if with_config is None:
        return [], lambda _: built.algorithm
    leaves, structure = jax.tree.flatten(job.config.method)

    def algorithm(numbers):
        given = iter(numbers)
        values = [next(given) if _varies(leaf) else leaf for leaf in leaves]
        return with_config(jax.tree.unflatten(structure, values))

    return [leaf for leaf in leaves if _varies(leaf)], algorithm
