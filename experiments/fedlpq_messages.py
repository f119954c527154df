"""Messages of one client of FedLP-Q, at the start of an iid run and late in another.

What a client would send in a global epoch is computed from the checkpoint before it,
as the method computes it: with the cohort, the batches and the draws of that epoch.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from experiments.cells import Cell, finish
from experiments.fedlpq_setting import USUAL, Scale, config_of
from fedjax_sl.fedlpq.next_update import sent_next
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.run_folder import append_lines, resume_lines
from fedjax_sl.reports.last_checkpoint import last_checkpoint


KEEP, BITS = 0.5, 10

EPOCHS = {"iid": 2, "non-iid": 71}
"""Global epochs of the published figure 6. Its clients are 7 and 81; here it is the
client with the most examples of that epoch's cohort."""


class Message(NamedTuple):
    """The layers of a client's update.

    Attributes:
      partition: of the run.
      epoch: global epoch, counted from 1.
      client: its id.
      levels: `{layer: [M_l]}` quantised indices, in rising order, small layers first.
    """

    partition: str
    epoch: int
    client: int
    levels: dict[str, np.ndarray]

    @property
    def title(self) -> str:
        """Whose it is."""
        return f"{self.partition}, epoch {self.epoch}, client {self.client}"


def _row(scale: Scale, partition: str, folders: Path, console: Console):
    """Runs up to the epoch, and counts the indices of a message in it."""
    epoch = min(EPOCHS[partition], scale.rounds)
    labels = USUAL | {"scheme": f"({KEEP})", "bits": BITS, "partition": partition}
    config = config_of(scale, labels, 0)
    before = replace(config, rounds=epoch - 1, eval_every=epoch - 1)
    cell = Cell(f"message-{partition}", {}, before)
    folder, versions = finish(cell, folders, console)
    seen = last_checkpoint(read(folder))
    assert seen is not None
    sent = sent_next(seen)
    assert sent is not None
    counts = {
        layer: [part.tolist() for part in np.unique(levels, return_counts=True)]
        for layer, levels in sent.levels.items()
    }
    where = {"partition": partition, "epoch": epoch, "client": sent.client}
    return where | {"seed": config.seed, "code": versions, "counts": counts}


def _message(row: dict[str, Any]) -> Message:
    """The message of a row."""
    levels = {layer: np.repeat(*counts) for layer, counts in row["counts"].items()}
    rising = dict(sorted(levels.items(), key=lambda item: item[1].size))
    return Message(row["partition"], row["epoch"], row["client"], rising)


def messages(
    scale: Scale, path: Path, *, folders: Path, console: Console
) -> list[Message]:
    """Computes the messages that a file of rows lacks, and returns all.

    Args:
      scale: size of the study.
      path: of the rows.
      folders: where the folders of its runs are.
      console: where progress is shown.

    Returns:
      One of an iid run, and one of a non-iid run.
    """
    known = {row["partition"]: row for row in resume_lines(path)}
    for partition in EPOCHS:
        if partition not in known:
            known[partition] = _row(scale, partition, folders, console)
            append_lines(path, [known[partition]])
    return [_message(known[partition]) for partition in EPOCHS]
