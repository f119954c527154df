"""The whole state of a run on disk: written beside the run, checked when read.

Arrays are stored by name with Orbax, a JSON object beside them; nothing is pickled, and
reading one executes nothing. A checkpoint appears under its round when it is complete.
"""

import hashlib
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


FORMAT = 1
"""Version of what is stored, and how."""

Arrays = dict[str, np.ndarray]


class Checkpoint(NamedTuple):
    """A run at the end of a round.

    Attributes:
      round: rounds done.
      state: the method's, arrays on the host.
      totals: sums over these rounds.
    """

    round: int
    state: Any
    totals: dict[str, Any]


class Unusable(ValueError):
    """A checkpoint cannot be gone on from; the message says why."""


class _Damaged(Unusable):
    """Something of it is missing or not as it was written."""


def _by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _field(name: str) -> str:
    return name.partition("/")[0]


def _stored(state: Any) -> Arrays:
    """Copies by name; an array without entries has nothing to be stored."""
    arrays = {name: np.array(leaf) for name, leaf in _by_name(state).items()}
    return {name: array for name, array in arrays.items() if array.size}


def _digest(arrays: Arrays) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).data)
    return found.hexdigest()


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"


def _as(like: Any, arrays: Arrays) -> Any:
    """The arrays in the structure of a state, or of some of its fields.

    Raises:
      Unusable: if they are not of that structure.
    """
    wanted = _by_name(like)
    empty = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in wanted.items()
        if not leaf.size
    }
    fields = {_field(name) for name in wanted}
    asked_for = {name: x for name, x in arrays.items() if _field(name) in fields}
    found = asked_for | empty
    for name in sorted(wanted.keys() | found.keys()):
        kinds = [_kind(x[name]) if name in x else "nothing" for x in (wanted, found)]
        if kinds[0] != kinds[1]:
            raise Unusable(f"{name}: expected {kinds[0]}, found {kinds[1]}.")
    return jax.tree.unflatten(jax.tree.structure(like), [found[n] for n in wanted])


class Checkpoints:
    """The last few checkpoints of a run."""

    def __init__(self, folder: Path, *, keep: int = 2):
        """Those in a folder, which is made if need be."""
        self.folder = folder.absolute()
        # One process writes, whatever others there are.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=False, multiprocessing_options=alone
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "progress")
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint while the caller goes on.

        Raises:
          OSError: if this one or the one before cannot be written; those that are
            complete stay.
        """
        arrays = _stored(checkpoint.state)
        progress = {
            "format": FORMAT,
            "digest": _digest(arrays),
            "totals": checkpoint.totals,
        }
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress)
        )
        self.wait()
        try:
            self.manager.save(checkpoint.round, args=items, force=True)
        except Exception as error:
            raise self._not_written(error) from error

    def wait(self) -> None:
        """Returns when all is written.

        Raises:
          OSError: if it cannot be.
        """
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Waits, and stores no more.

        Raises:
          OSError: if something cannot be written.
        """
        try:
            self.wait()
        finally:
            self.manager.close()

    def _not_written(self, error: Exception) -> OSError:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return OSError(f"{self.folder}: a checkpoint cannot be written: {reason[0]}")

    def newest(self, like: Any, *, most: float = math.inf) -> Checkpoint | None:
        """The newest checkpoint that is sound.

        Those damaged are passed over with a warning.

        Args:
          like: a state of the same shapes and dtypes, or a dict of fields of one.
          most: rounds that are on record.

        Returns:
          The checkpoint, of at most so many rounds; None if there is none.

        Raises:
          Unusable: if checkpoints are there, and all are damaged; or if a sound one is
            of another structure or format.
        """
        found = self._newest(most)
        return found and found._replace(state=_as(like, found.state))

    def rounds(self) -> list[int]:
        """Those that a checkpoint is kept of, sound or not, in their order."""
        return sorted(self.manager.all_steps())

    def arrays(self) -> Arrays:
        """All arrays of the newest one that is sound, by name; none if there is none.

        Raises:
          Unusable: as `newest`.
        """
        found = self._newest(math.inf)
        return found.state if found else {}

    def _newest(self, most: float) -> Checkpoint | None:
        reasons = []
        for round in reversed(self.rounds()):
            if round > most:
                continue
            try:
                return self._read(round)
            except _Damaged as error:
                reasons.append(f"{self.folder / str(round)}: {error}")
                warnings.warn(f"passed over {reasons[-1]}", stacklevel=3)
        if reasons:
            raise Unusable(reasons[0])
        return None

    def forget_after(self, round: int) -> None:
        """Removes those of later rounds, which are to be run again."""
        for later in self.rounds():
            if later > round:
                self.manager.delete(later)

    def _read(self, round: int) -> Checkpoint:
        """The state as arrays by name."""
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore()
        )
        try:
            found = self.manager.restore(round, args=items)
            arrays = {name: np.asarray(x) for name, x in found["state"].items()}
            progress = found["progress"]
            version, digest = progress["format"], progress["digest"]
            totals = dict(progress["totals"])
        except Exception as error:
            raise _Damaged(
                "it is damaged, or no checkpoint of this package."
            ) from error
        if version != FORMAT:
            raise Unusable(f"format {version}: expected {FORMAT}.")
        if _digest(arrays) != digest:
            raise _Damaged("it is damaged.")
        return Checkpoint(round, arrays, totals)
