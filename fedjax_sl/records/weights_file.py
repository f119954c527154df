"""The variables of a network in an archive of NumPy, by their names."""

from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sl.archive import array_of, opened
from fedjax_sl.errors import InputError
from fedjax_sl.records import disk
from fedjax_sl.records.named_arrays import Unusable, as_like, by_name


def write_weights(path: Path, variables: Any) -> None:
    """Writes variables, such as `params/stage_00/conv/kernel`, in place of any file.

    Raises:
      OSError: if it cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in by_name(variables).items()}
    # Whole or not at all: a file of before is not lost.
    part = path.with_name(f"{path.name}.part")
    with disk.writing(path):
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)


def read_weights(path: Path, like: Any) -> Any:
    """Reads the variables of a network.

    Args:
      path: an archive of `numpy.savez`, as `write_weights` writes it.
      like: variables, or their shapes and dtypes.

    Returns:
      The variables, arrays on the host.

    Raises:
      ValueError: if it is no archive, or has other names, shapes or dtypes.
      OSError: if there is no such file.
    """
    with opened(path) as archive:
        try:
            arrays = {name: array_of(archive, name) for name in archive.files}
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if unknown := sorted(arrays.keys() - by_name(like).keys()):
        raise InputError(f"{path}: {unknown[0]}: expected no such array.")
    try:
        return as_like(like, arrays)
    except Unusable as error:
        raise InputError(f"{path}: {error}") from error
