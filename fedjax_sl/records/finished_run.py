"""Runs read back from their folders, and their learning curves over a channel."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import RoundCosts, round_costs
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.metrics import read_record
from fedjax_sl.traffic import Record


class Finished(NamedTuple):
    """A run as its folder has it, finished or not.

    Attributes:
      folder: folder of the run.
      config: configuration that it was started with.
      lines: lines of metrics.jsonl, one for each evaluation.
      record: record of the rounds up to the last evaluation, from rounds.jsonl.
    """

    folder: Path
    config: RunConfig
    lines: list[dict[str, Any]]
    record: Record


class LearningCurve(NamedTuple):
    """Cumulative costs and accuracy at each of V evaluations, `[V]` each.

    Attributes:
      rounds: rounds done.
      epochs: passes over the training examples, NaN if the record lacks them.
      bits: bits sent up.
      seconds: simulated seconds.
      joules: joules of all devices.
      accuracy: accuracy on the test split.
    """

    rounds: np.ndarray
    epochs: np.ndarray
    bits: np.ndarray
    seconds: np.ndarray
    joules: np.ndarray
    accuracy: np.ndarray


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl.

    Raises:
      ValueError: if a line lacks a field that every version writes.
    """
    lines, last = folders.read_lines(path), 0
    for number, line in enumerate(lines, start=1):
        done, accuracy = line.get("round"), line.get("test_accuracy")
        known = isinstance(accuracy, int | float) and 0 <= accuracy <= 1
        # A bool is an instance of int.
        if type(done) is not int or done <= last or not known:
            raise InputError(
                f"{path}: line {number}: expected a round after {last} and its "
                "test_accuracy in [0, 1]; it is of another version, or damaged."
            )
        last = done
    return lines


def _read_record(path: Path, done: int, num_clients: int) -> Record:
    """Reads the record of the first `done` rounds from rounds.jsonl.

    Raises:
      ValueError: if it is not the record of a run of N clients.
    """
    # A run that was stopped may have rounds after its last evaluation.
    rounds = folders.read_lines(path)[:done]
    if done != len(rounds):
        raise InputError(f"{path}: expected {done} rounds, found {len(rounds)}.")
    try:
        record = read_record(rounds)
    except KeyError as missing:
        raise InputError(
            f"{path}: expected a column {missing}; it is of another version."
        ) from missing
    except (TypeError, ValueError, OverflowError):
        # Texts, rows of unequal length, integers beyond 64 bits.
        record = None
    columns = [] if record is None else jax.tree.leaves(record)
    shape = columns[0].shape if columns else ()
    alike = len(shape) == 2 and all(column.shape == shape for column in columns)
    if record is None or not alike or not _known(record.client_id, num_clients):
        raise InputError(
            f"{path}: expected numbers of the same clients, 0 to {num_clients - 1}, in "
            "every column; it is damaged."
        )
    return record


def _known(client_id: np.ndarray, num_clients: int) -> bool:
    # Rounds of nobody have no smallest id.
    within = client_id.size > 0 and client_id.min() >= 0
    return bool(within and client_id.max() < num_clients)


def read(folder: Path) -> Finished:
    """Reads a run's folder.

    Raises:
      ValueError: if it is none, or something in it cannot be understood.
      OSError: if something cannot be read.
    """
    if not (folder / folders.CONFIG).exists():
        raise InputError(f"{folder}: expected the folder of a run.")
    config = from_json(folder / folders.CONFIG)
    lines = _read_lines(folder / folders.METRICS)
    record = _read_record(
        folder / folders.ROUNDS, lines[-1]["round"], config.data.num_clients
    )
    return Finished(folder, config, lines, record)


def find(paths: Sequence[Path]) -> list[Path]:
    """Returns the folders of runs, where a sweep's folder stands for its runs.

    Raises:
      ValueError: if a path is neither, or its sweep has no finished run.
    """
    found: list[Path] = []
    for path in paths:
        # A hidden folder holds a run that was set aside.
        # One level down only: runs in `unfinished` lie deeper.
        configs = path.glob(f"[!.]*/{folders.CONFIG}")
        inside = sorted(config.parent for config in configs)
        here = [path] if (path / folders.CONFIG).exists() else inside
        if not here and (path / folders.SWEEP).exists():
            raise InputError(f"{path}: no run of this sweep has finished yet.")
        if not here:
            raise InputError(f"{path}: expected the folder of a run or of a sweep.")
        found += here
    # A run that is named twice, or beside its sweep, is no second seed.
    return list(dict.fromkeys(found))


def costs_over(run: Finished, channel: Channel) -> RoundCosts:
    """Returns what each round of a run costs over a channel.

    A run that excluded stragglers keeps the deadline by which it did: with another one,
    others would have taken part in it.
    """
    if run.config.drop_stragglers:
        channel = replace(channel, deadline_s=run.config.channel.deadline_s)
    return round_costs(channel, run.record, sequential=run.config.sequential)


def learning_curve(run: Finished, channel: Channel) -> LearningCurve:
    """Returns the learning curve of a run, its `costs_over` a channel."""
    costs = costs_over(run, channel)
    done = np.array([line["round"] for line in run.lines])

    def cumulative(per_round: np.ndarray) -> np.ndarray:
        # Rounds done are counted from 1, and rows from 0.
        return np.cumsum(per_round)[done - 1]

    return LearningCurve(
        rounds=done,
        epochs=np.array([line.get("epoch", np.nan) for line in run.lines]),
        bits=cumulative(run.record.traffic.uplink.sum(axis=1)),
        seconds=cumulative(costs.seconds),
        joules=cumulative(costs.joules.sum(axis=1)),
        accuracy=np.array([line["test_accuracy"] for line in run.lines]),
    )
