"""Starts a run: afresh, from another run's models, or from its own checkpoint."""

import math
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_sl.configs.fields import flattened
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.records import opening
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.records.metrics import ZERO_TOTALS, answers_in
from fedjax_sl.runs import distributed
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.init_from import models_of
from fedjax_sl.runs.programs import Programs


def _evaluated(folder: Path) -> list[int]:
    """Returns the rounds of the lines of metrics.jsonl.

    Raises:
      ValueError: if a line lacks its round.
    """
    path = folder / folders.METRICS
    rounds = [line.get("round") for line in folders.resume_lines(path)]
    if not all(type(done) is int for done in rounds):
        raise InputError(f"{path}: expected a round in every line; it is damaged.")
    return rounds  # type: ignore[return-value]


def _known(totals: dict[str, Any]) -> bool:
    """Returns whether these are the sums that this version writes."""
    numbers = all(isinstance(value, int | float) for value in totals.values())
    return numbers and totals.keys() == ZERO_TOTALS.keys()


def _answers(folder: Path, rounds: list[dict[str, Any]]) -> np.ndarray:
    """Counts the rounds in which each client answered.

    Raises:
      ValueError: if the record does not tell.
    """
    try:
        return answers_in(rounds)
    except (KeyError, TypeError, ValueError, OverflowError) as wrong:
        raise InputError(
            f"{folder / folders.ROUNDS}: expected what each client computed and sent "
            "in every line; it is of another version, or damaged."
        ) from wrong


def newest(folder: Path, shape: Any, *, most: float = math.inf) -> Checkpoint | None:
    """Returns the newest checkpoint of a run that is covered by its record.

    Args:
      folder: folder of the run.
      shape: shapes and dtypes of its state.
      most: largest round that the checkpoint may have.

    Returns:
      The checkpoint; None if there is none and the run starts afresh.

    Raises:
      ValueError: if none of its checkpoints can be used.
    """
    # Before the first evaluation, sums end at round 0.
    evaluated = [0, *_evaluated(folder)]
    rounds = folders.resume_lines(folder / folders.ROUNDS)
    # Part of its sums comes from lines: one that is ahead of them cannot be used.
    most = min(most, len(rounds))
    checkpoints = Checkpoints(folder / folders.CHECKPOINTS)
    try:
        while (found := checkpoints.newest(shape, most=most)) is not None:
            # At round 0 there are no sums yet.
            if found.round and not _known(found.totals):
                raise InputError(
                    f"{checkpoints.folder / str(found.round)}: expected numbers for "
                    f"{', '.join(ZERO_TOTALS)}; it is of another version."
                )
            # Its sums end at an evaluation, which metrics.jsonl may have lost.
            if found.evaluated in evaluated:
                pending = rounds[found.evaluated : found.round]
                answers = _answers(folder, rounds[: found.evaluated])
                return found._replace(pending=pending, answers=answers)
            most = found.round - 1
    finally:
        checkpoints.close()
    return None


def cut_back(folder: Path, found: Checkpoint | None) -> None:
    """Truncates a record to the rounds of a checkpoint, or to nothing without one.

    Raises:
      OSError: if it cannot be written.
    """
    # Later checkpoints go first: they would match the record once it grows again.
    done, evaluated = (found.round, found.evaluated) if found else (0, 0)
    checkpoints = Checkpoints(folder / folders.CHECKPOINTS)
    try:
        checkpoints.forget_after(done)
    finally:
        checkpoints.close()
    # metrics.jsonl first: its lines must not be ahead of rounds.jsonl.
    kept = sum(reached <= evaluated for reached in _evaluated(folder))
    folders.keep_lines(folder / folders.METRICS, kept)
    folders.keep_lines(folder / folders.ROUNDS, done)


def _last_kept(folder: Path, programs: Programs) -> Checkpoint | None:
    """Returns the newest checkpoint that the record covers, and truncates the record.

    Raises:
      ValueError: if there is a record but no checkpoint at all.
    """
    found, path = newest(folder, programs.shape), folder / folders.CHECKPOINTS
    lines = len(folders.resume_lines(folder / folders.ROUNDS))
    # Complete checkpoints are named by their round alone.
    complete = any(entry.name.isdecimal() for entry in path.iterdir())
    if found is None and complete:
        warnings.warn(
            f"{folder}: its record ends before every checkpoint, as after a loss of "
            "power; starting again at round 0",
            stacklevel=2,
        )
    elif found is None and lines:
        raise InputError(
            f"{path}: expected a checkpoint of a round up to {lines}, which is as far "
            "as the record goes; --overwrite begins anew."
        )
    cut_back(folder, found)
    return found


# None changes what a round computes, but for the order of sums.
MAY_CHANGE = ("rounds", "mapping", "chunk", "residuals", "stream_mib", "data.dir")
"""Fields that a resumed run may change; rounds may only grow."""


def check_same(stored: RunConfig, options: RunConfig) -> None:
    """Refuses to resume a run as another one.

    Raises:
      ValueError: naming the first field that differs.
    """
    was, now = flattened(stored), flattened(options.resolved())
    for name, value in was.items():
        if name not in MAY_CHANGE and now.get(name) != value:
            raise InputError(
                f"--resume: {name}={now.get(name)}: expected {value}, as the run was "
                "started with."
            )
    if options.rounds < stored.rounds:
        raise InputError(
            f"--resume: rounds={options.rounds}: expected at least {stored.rounds}."
        )


def check_folder(
    folder: Path, config: RunConfig, *, resume: bool, overwrite: bool = False
) -> None:
    """Rejects a folder that holds a run which is neither resumed nor replaced.

    Raises:
      ValueError: naming the folder, or the field in which the run there differs.
      PermissionError: if it cannot be created.
    """
    stored = folder / folders.CONFIG
    if resume and stored.exists():
        check_same(from_json(stored), config)
    else:
        opening.check(folder, overwrite=overwrite, resume=resume)


def begin(job: Job, programs: Programs, folder: Path, *, resume: bool) -> Checkpoint:
    """Returns the checkpoint to start from, its state on the devices of all processes.

    Args:
      job: the run.
      programs: programs of the run.
      folder: folder of its record.
      resume: resume from the record, if there is one.

    Returns:
      The checkpoint, of 0 rounds for a fresh run.

    Raises:
      ValueError: if a valid checkpoint is expected and missing.
      OSError: if something cannot be read or written.
    """

    def read() -> Checkpoint | None:
        found = _last_kept(folder, programs) if resume else None
        if found is None and job.config.init_from is not None:
            return models_of(job, programs, Path(job.config.init_from))
        return found

    found = distributed.on_first(read)
    if not distributed.largest(found is not None):
        return Checkpoint(0, programs.initial(), {})
    # The other processes have read nothing: their values only give the shapes.
    host = jax.device_get(programs.initial()) if found is None else found.state
    done = distributed.from_first(np.int32(found.round if found else 0))
    state = programs.place(distributed.from_first(host))
    if found is None:
        # Sums of other processes begin at 0: only the first one writes lines.
        return Checkpoint(int(done), state, {})
    return found._replace(state=state)
