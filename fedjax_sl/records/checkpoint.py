"""The whole state of a run on disk: written beside the run, checked when read.

Arrays are stored by name with Orbax, a JSON object beside them; nothing is pickled, and
reading one executes nothing. A checkpoint appears under its round when it is complete,
and others make way for it when it would outlast a loss of power.
"""

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from fedjax_sl import reading
from fedjax_sl.records import disk
from fedjax_sl.records.named_arrays import Arrays, Unusable, as_like, digest, stored
from fedjax_sl.records.silence import silence_orbax


FORMAT = 2
"""Version of what is stored, and how; those from 1 on are read."""


class Checkpoint(NamedTuple):
    """A run at the end of a round.

    Attributes:
      round: rounds done.
      state: the method's, arrays on the host.
      totals: sums over the rounds up to the last evaluation.
      evaluated: rounds done at that evaluation.
      pending: lines of the rounds since then, which are on record, and not stored.
    """

    round: int
    state: Any
    totals: dict[str, Any]
    evaluated: int = 0
    pending: Sequence[dict[str, Any]] = ()


class _Damaged(Unusable):
    """Something of it is missing or not as it was written."""


def _check_files(folder: Path) -> None:
    """Refuses what Orbax would wait for: a pipe, a device, metadata without end.

    Raises:
      ValueError: naming the file.
    """
    for path in folder.rglob("*"):
        if not path.is_dir():
            of_arrays = path.parent.name == "d"
            reading.check(path, most=None if of_arrays else reading.DESCRIPTION)


class Checkpoints:
    """The last few checkpoints of a run, and some that are kept for good."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 2,
        for_good: Callable[[int], bool] = lambda round: False,
    ):
        """Those in a folder, which is made if need be.

        Args:
          folder: where they lie.
          keep: how many of the last ones stay.
          for_good: whether that of a round stays, too.

        Raises:
          DiskError: if the folder cannot be made.
          ValueError: if there is something else than files in it.
        """
        self.folder, self.keep, self.for_good = folder.absolute(), keep, for_good
        silence_orbax()
        # One process writes, whatever others there are, and one thread of it.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        options = ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=alone,
            enable_async_checkpointing=False,
        )
        with disk.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        _check_files(self.folder)
        self.manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "progress")
        )
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.written: Future | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint while the caller goes on.

        Raises:
          DiskError: if the one before cannot be written; those that are complete stay.
        """
        arrays = stored(checkpoint.state)
        progress = {
            "format": FORMAT,
            "digest": digest(arrays),
            "totals": checkpoint.totals,
            "evaluated": checkpoint.evaluated,
        }
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress)
        )
        self.wait()
        self.written = self.writer.submit(self._write, checkpoint.round, items)

    def _write(self, round: int, items: Any) -> None:
        """Others are removed only when this one would outlast a loss of power."""
        self.manager.save(round, args=items, force=True)
        disk.sync_tree(self.folder / str(round))
        disk.sync(self.folder)
        for old in self.rounds()[: -self.keep]:
            if not self.for_good(old):
                self.manager.delete(old)

    def wait(self) -> None:
        """Returns when all is written.

        Raises:
          DiskError: if it cannot be.
        """
        written, self.written = self.written, None
        try:
            if written is not None:
                written.result()
        except Exception as error:
            self._remove_unfinished()
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise disk.DiskError(
                f"{self.folder}: a checkpoint cannot be written: {reason[0]}"
            ) from error

    def close(self) -> None:
        """Waits, and stores no more.

        Raises:
          DiskError: if something cannot be written.
        """
        try:
            self.wait()
        finally:
            self.writer.shutdown()
            self.manager.close()

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
        if found is None:
            return None
        try:
            return found._replace(state=as_like(like, found.state))
        except Unusable as other:
            raise Unusable(f"{self.folder / str(found.round)}: {other}") from other

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
                reasons.append(str(error))
                warnings.warn(f"passed over {error}", stacklevel=3)
        if reasons:
            raise Unusable(reasons[0])
        return None

    def forget_after(self, round: int) -> None:
        """Removes those of later rounds, which are run again, and unfinished ones.

        Raises:
          DiskError: if they cannot be removed.
        """
        with disk.writing(self.folder):
            for later in self.rounds():
                if later > round:
                    self.manager.delete(later)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _read(self, round: int) -> Checkpoint:
        """The state as arrays by name."""
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore()
        )
        path = self.folder / str(round)
        try:
            found = self.manager.restore(round, args=items)
            arrays = {name: np.asarray(x) for name, x in found["state"].items()}
            progress = dict(found["progress"])
            version = progress["format"]
        except Exception as error:
            raise _Damaged(
                f"{path}: it is damaged, or no checkpoint of this package."
            ) from error
        if version not in range(1, FORMAT + 1):
            raise Unusable(
                f"{path}: format {version}: expected 1 to {FORMAT}; it is of another "
                "version."
            )
        try:
            whole = digest(arrays) == progress["digest"]
            totals = dict(progress["totals"])
            # Before format 2 there were none between evaluations.
            evaluated = int(progress.get("evaluated", round))
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise _Damaged(f"{path}: it is damaged.")
        return Checkpoint(round, arrays, totals, evaluated)
