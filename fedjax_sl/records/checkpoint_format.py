"""The content of a checkpoint: arrays by name, and a JSON object beside them.

Nothing is pickled, and reading a checkpoint executes nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from fedjax_sl import reading
from fedjax_sl.records.named_arrays import Unusable, digest, stored


FORMAT = 2
"""Version of the content; versions from 1 on can be read."""


class Checkpoint(NamedTuple):
    """A run at the end of a round.

    Attributes:
      round: rounds done.
      state: state of the method, arrays on the host.
      totals: sums over the rounds up to the last evaluation.
      evaluated: rounds done at that evaluation.
      pending: lines of the rounds since then; they are in the record and not stored.
      answers: number of rounds up to that evaluation in which each client answered, of
        the clients up to the last that did; it is in the record and not stored.
    """

    round: int
    state: Any
    totals: dict[str, Any]
    evaluated: int = 0
    pending: Sequence[dict[str, Any]] = ()
    answers: np.ndarray = np.zeros(0, np.int64)


class Damaged(Unusable):
    """Part of a checkpoint is missing or differs from what was written."""


def check_files(folder: Path) -> None:
    """Rejects files that Orbax would block on: pipes, devices, endless metadata.

    Raises:
      ValueError: if there is one; the message names the file.
    """
    for path in folder.rglob("*"):
        if not path.is_dir():
            # Orbax keeps array data in folders called d; other files are metadata.
            of_arrays = path.parent.name == "d"
            reading.check(path, most=None if of_arrays else reading.DESCRIPTION)


def items_of(checkpoint: Checkpoint) -> ocp.args.Composite:
    """Returns what Orbax stores of a checkpoint, the state copied."""
    arrays = stored(checkpoint.state)
    progress = {
        "format": FORMAT,
        "digest": digest(arrays),
        # JSON keeps integers of any size and 64-bit floats exactly.
        "totals": checkpoint.totals,
        "evaluated": checkpoint.evaluated,
    }
    return ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress)
    )


def read(manager: ocp.CheckpointManager, folder: Path, round: int) -> Checkpoint:
    """Reads the checkpoint of a round, its state as arrays by name.

    Raises:
      Damaged: if it is incomplete or its checksum differs.
      Unusable: if it has another format.
    """
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore()
    )
    path = folder / str(round)
    try:
        found = manager.restore(round, args=items)
        arrays = {name: np.asarray(x) for name, x in found["state"].items()}
        progress = dict(found["progress"])
        version = progress["format"]
    # Damaged files make Orbax fail in any way.
    except Exception as error:
        raise Damaged(
            f"{path}: it is damaged, or no checkpoint of this package."
        ) from error
    # Not `Damaged`, for which an older checkpoint would take its place.
    if version not in range(1, FORMAT + 1):
        raise Unusable(
            f"{path}: format {version}: expected 1 to {FORMAT}; it is of another "
            "version."
        )
    try:
        whole = digest(arrays) == progress["digest"]
        totals = dict(progress["totals"])
        # Format 1 was written at evaluations only.
        evaluated = int(progress.get("evaluated", round))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise Damaged(f"{path}: it is damaged.")
    return Checkpoint(round, arrays, totals, evaluated)
