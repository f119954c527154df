"""The global model that a run has come to."""

from functools import partial
from pathlib import Path
from typing import Any

import jax

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import last_arrays
from fedjax_sl.records.named_arrays import Unusable, as_like
from fedjax_sl.simulation import start


def last_weights(folder: Path, algorithm: Algorithm) -> Any:
    """Returns the global model of a run's last checkpoint.

    Args:
      folder: of the run.
      algorithm: that it is of.

    Returns:
      The variables as `Algorithm.weights` has them, on the host.

    Raises:
      ValueError: if there is no checkpoint or no global model, or it is of another
        algorithm.
    """
    if algorithm.weights is None:
        raise InputError(
            f"{folder}: expected a method that has a global model, and tells it."
        )
    shape = jax.eval_shape(partial(start, algorithm, jax.random.key(0)))
    try:
        arrays = last_arrays(folder / folders.CHECKPOINTS)
        if not arrays:
            raise InputError(f"{folder}: expected a run with checkpoints.")
        state = as_like(shape, arrays)
    except Unusable as error:
        raise InputError(f"{folder}: {error}") from error
    return jax.device_get(algorithm.weights(state))
