"""The checkpoints of a run: written in the background, checked when read.

A checkpoint appears under its round once it is complete. Older ones are removed only
after it would outlast a loss of power.
"""

import math
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from fedjax_sl.records import disk
from fedjax_sl.records.checkpoint_format import (
    Checkpoint,
    Damaged,
    check_files,
    items_of,
    read,
)
from fedjax_sl.records.named_arrays import Arrays, Unusable, as_like
from fedjax_sl.records.silence import silence_orbax


class Checkpoints:
    """The most recent checkpoints of a run, and some that are never removed."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 2,
        for_good: Callable[[int], bool] = lambda round: False,
    ):
        """Opens a folder of checkpoints, and creates it if it does not exist.

        Args:
          folder: folder of the checkpoints.
          keep: number of most recent checkpoints to keep, >= 1.
          for_good: whether the checkpoint of a round is kept in any case.

        Raises:
          DiskError: if the folder cannot be created.
          ValueError: if it holds something else than regular files.
        """
        self.folder, self.keep, self.for_good = folder.absolute(), keep, for_good
        silence_orbax()
        # Only the first process writes, and does not wait for the others to join in.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        options = ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=alone,
            # `writer` is the background thread: it has to sync and delete in order.
            enable_async_checkpointing=False,
        )
        with disk.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        # Before Orbax opens anything: a pipe would keep it waiting.
        check_files(self.folder)
        self.manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "progress")
        )
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.written: Future | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint in the background.

        Raises:
          DiskError: if the previous one could not be written; complete ones stay.
        """
        # Copied now, since the next call of a program reuses the state's memory.
        items = items_of(checkpoint)
        # One write at a time, so that its failure reaches the caller.
        self.wait()
        self.written = self.writer.submit(self._write, checkpoint.round, items)

    def _write(self, round: int, items: Any) -> None:
        """Writes a checkpoint, then removes older ones."""
        # `force` saves whatever Orbax's own policy says of this round.
        self.manager.save(round, args=items, force=True)
        # On the disk itself, entry included, before an older one may be removed.
        disk.sync_tree(self.folder / str(round))
        disk.sync(self.folder)
        for old in self.rounds()[: -self.keep]:
            if not self.for_good(old):
                self.manager.delete(old)

    def wait(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
          DiskError: if it cannot be written.
        """
        # Taken first: `close` waits again, and must not fail a second time.
        written, self.written = self.written, None
        try:
            if written is not None:
                written.result()
        # On a full disk Orbax raises more than OSError.
        except Exception as error:
            self._remove_unfinished()
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise disk.DiskError(
                f"{self.folder}: a checkpoint cannot be written: {reason[0]}"
            ) from error

    def close(self) -> None:
        """Waits for the last checkpoint, and ends the background thread.

        Raises:
          DiskError: if it cannot be written.
        """
        try:
            self.wait()
        finally:
            self.writer.shutdown()
            self.manager.close()

    def newest(self, like: Any, *, most: float = math.inf) -> Checkpoint | None:
        """Returns the newest valid checkpoint; damaged ones are skipped with a warning.

        Args:
          like: a state of the same shapes and dtypes, or a dict of fields of one.
          most: largest round that the checkpoint may have.

        Returns:
          The checkpoint, or None if there is none.

        Raises:
          Unusable: if every checkpoint is damaged, or if a valid one has another
            structure or format.
        """
        found = self._newest(most)
        if found is None:
            return None
        try:
            # Another structure is no damage: an older checkpoint would have it, too.
            return found._replace(state=as_like(like, found.state))
        except Unusable as other:
            raise Unusable(f"{self.folder / str(found.round)}: {other}") from other

    def rounds(self) -> list[int]:
        """Returns the rounds of all checkpoints, valid or not, in rising order."""
        return sorted(self.manager.all_steps())

    def arrays(self) -> Arrays:
        """Returns the arrays of the newest valid checkpoint by name; empty without one.

        Raises:
          Unusable: as for `newest`.
        """
        found = self._newest(math.inf)
        return found.state if found else {}

    def _newest(self, most: float) -> Checkpoint | None:
        reasons = []
        for round in reversed(self.rounds()):
            if round > most:
                continue
            try:
                return read(self.manager, self.folder, round)
            except Damaged as error:
                reasons.append(str(error))
                warnings.warn(f"a damaged checkpoint is skipped: {error}", stacklevel=3)
        if reasons:
            raise Unusable(reasons[0])
        return None

    def forget_after(self, round: int) -> None:
        """Removes unfinished checkpoints, and those of later rounds, which run again.

        Raises:
          DiskError: if one cannot be removed.
        """
        with disk.writing(self.folder):
            for later in self.rounds():
                if later > round:
                    self.manager.delete(later)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        # Orbax writes under such a name, and renames what is complete.
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)


def last_arrays(path: Path) -> Arrays | None:
    """Returns the arrays of the newest valid checkpoint in a folder of checkpoints.

    Returns:
      They by name, empty without one; None if there is no such folder, which
      `Checkpoints` would make.

    Raises:
      Unusable: as `Checkpoints.arrays`.
    """
    if not path.is_dir():
        return None
    checkpoints = Checkpoints(path)
    try:
        return checkpoints.arrays()
    finally:
        checkpoints.close()
