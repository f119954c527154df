"""Lines of a run's record: metrics of each evaluation, counts of each round."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_sl.algorithm import RoundMetrics
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.traffic import AT_SECOND_CUT, Record, Traffic, record_of


EPSILON = float(np.finfo(np.float32).eps)

# A new name here keeps checkpoints of earlier versions from being resumed.
ZERO_TOTALS = {
    "uplink_bits": 0,
    "downlink_bits": 0,
    "left_out": 0,
    "sim_seconds": 0.0,
    "sim_joules": 0.0,
    "wall_seconds": 0.0,
}


def _mean_loss(loss: np.ndarray, answered: np.ndarray) -> float:
    """Returns the mean over clients that answered with a finite loss."""
    counted = loss[answered & np.isfinite(loss)]
    return float(counted.mean()) if len(counted) else math.nan


def _mean_kept(kept_ratio: np.ndarray, answered: np.ndarray) -> float:
    """Returns the mean over clients that answered, or over all if none did."""
    # The mean over nobody would be NaN.
    return float(np.mean(kept_ratio, where=answered | ~answered.any()))


class Totals:
    """Accumulates sums over rounds, and derives the lines of metrics.jsonl."""

    def __init__(
        self,
        test: Dataset,
        *,
        steps: int,
        epochs: np.ndarray,
        channel: Channel,
        sequential: Sequential,
        so_far: dict[str, Any] | None = None,
        pending: Sequence[dict[str, Any]] = (),
        answers: Sequence[int] | np.ndarray = (),
        counts: bool = True,
    ):
        """Starts at zero, or resumes from earlier sums.

        Args:
          test: examples of the test split.
          steps: optimiser steps in a round.
          epochs: `[N]` share of all training examples that each client trains on in a
            round, repetitions counted.
          channel: channel of simulated time and energy.
          sequential: phases that clients do one after another.
          so_far: earlier sums, as from `so_far()`.
          pending: lines of the rounds since the last evaluation.
          answers: rounds before that in which each client answered, as `answers_in`.
          counts: whether the method is known to count what clients send.
        """
        self.pending = list(pending)
        self.steps, self.epochs = steps, epochs
        missing = len(epochs) - len(answers)
        self.answers = np.pad(np.asarray(answers, np.int64), (0, missing))
        self.channel, self.counts = channel, counts
        self.sequential: Sequential = sequential
        of_class = np.bincount(test.label, minlength=test.num_classes)
        self.examples = int(of_class.sum())
        self.majority_rate = float(of_class.max() / self.examples)
        self.sums = dict(ZERO_TOTALS if not so_far else so_far)
        # As if it had started earlier: wall time includes runs before this one.
        self.started = time.monotonic() - self.sums.pop("wall_seconds")

    def _wall_seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def _share(self, accuracy: Any) -> float:
        """Returns the quotient whose float32 rounding an accuracy is, if it is one."""
        # Rounded to float32, an accuracy may miss a target that it equals.
        share = round(float(accuracy) * self.examples) / self.examples
        # A mean over the models of several clients is no share of the examples.
        near = abs(share - float(accuracy)) <= 2 * EPSILON * share
        return share if near else float(accuracy)

    def so_far(self) -> dict[str, Any]:
        """Returns the sums up to the last evaluation, which JSON keeps exactly."""
        return {**self.sums, "wall_seconds": self._wall_seconds()}

    def add(self, first: int, rounds: RoundMetrics) -> list[dict[str, Any]]:
        """Adds rounds and returns their lines; arguments as for `round_lines`."""
        lines = round_lines(first, rounds)
        self.pending += lines
        return lines

    def line(self, done: int, views: Any) -> dict[str, Any]:
        """Sums up the rounds since the last evaluation.

        Args:
          done: rounds done, these included.
          views: `Evaluation` by name of the view.

        Returns:
          A line of metrics.jsonl.
        """
        rounds, self.pending = self.pending, []
        # From lines, not arrays: after a resume some of them come from rounds.jsonl.
        record = read_record(rounds)
        # Fading is drawn by the number of the round.
        first = done - len(record.client_id)
        costs = round_costs(
            self.channel, record, first_round=first, sequential=self.sequential
        )
        # Who sent nothing was absent, its loss of padding alone; but a program's own
        # algorithm need not count what is sent.
        answered = record.traffic.uplink > 0
        answered |= not (self.counts or answered.any())
        # Python integers, which JSON needs and which do not overflow.
        new = {
            "uplink_bits": int(record.traffic.uplink.sum()),
            "downlink_bits": int(record.traffic.downlink.sum()),
            "left_out": int(np.sum(_column(rounds, "left_out", bool))),
            "sim_seconds": float(costs.seconds.sum()),
            "sim_joules": float(costs.joules.sum()),
        }
        self.sums = {name: self.sums[name] + value for name, value in new.items()}
        self.answers += answers_in(rounds, len(self.epochs))
        line = {
            "round": done,
            "step": done * self.steps,
            "epoch": float((self.answers * self.epochs).sum()),
            "train_loss": _mean_loss(_column(rounds, "loss", np.float32), answered),
            "test_accuracy": self._share(views[""].accuracy),
            "test_balanced_accuracy": float(views[""].balanced_accuracy),
            "test_loss": float(views[""].loss),
        }
        for name in filter(None, views):
            line[f"{name}_test_accuracy"] = self._share(views[name].accuracy)
        return line | {
            "majority_rate": self.majority_rate,
            # A state, not a sum: that of the last of these rounds.
            "kept_ratio": _mean_kept(
                _column(rounds[-1:], "kept_ratio", np.float32)[0],
                record.traffic.uplink[-1] > 0,
            ),
            **self.so_far(),
        }


def round_lines(first: int, rounds: RoundMetrics) -> list[dict[str, Any]]:
    """Returns lines of rounds.jsonl: work and traffic of each client.

    `LINK_bits` are all bits transmitted over a link, `LINK_side_bits` those of them
    that are side information.

    Args:
      first: number of the first of these rounds.
      rounds: metrics of the rounds, leaves `[T, K]`.

    Returns:
      A line for each round, with lists of K values.
    """
    record, links = record_of(rounds), rounds.links
    # A network without a second cut has no columns of it.
    known = [name for name in links._fields if getattr(links, name) is not None]
    bits, side = record.traffic._asdict(), record.side._asdict()
    columns = {
        "client_id": record.client_id,
        "loss": np.asarray(rounds.loss, np.float64),
        # Records of earlier versions have it under this name.
        "left_out": np.asarray(rounds.rejected),
        "kept_ratio": np.asarray(rounds.kept_ratio, np.float64),
        **{f"{link}_bits": bits[link] for link in known},
        **{f"{link}_side_bits": side[link] for link in known},
        "client_macs": record.client_macs,
        "server_macs": record.server_macs,
        **({} if rounds.work.tail is None else {"tail_macs": record.tail_macs}),
    }
    return [
        {"round": first + t, **{name: v[t].tolist() for name, v in columns.items()}}
        for t in range(len(record.client_id))
    ]


def _column(lines: Sequence[dict[str, Any]], name: str, dtype: type) -> np.ndarray:
    """Returns a column of the lines, `[T, K]`."""
    return np.array([line[name] for line in lines], dtype)


def _of_second_cut(
    lines: Sequence[dict[str, Any]], name: str, dtype: type
) -> np.ndarray:
    """Returns a column, 0 where the network has no second cut."""
    if lines and name not in lines[0]:
        return np.zeros(_column(lines, "client_id", np.int64).shape, dtype)
    return _column(lines, name, dtype)


def answers_in(lines: Sequence[dict[str, Any]], clients: int = 0) -> np.ndarray:
    """Counts the rounds in which each client answered, of at least so many clients."""
    if not lines:
        return np.zeros(clients, np.int64)
    # A half that is pruned as a whole computes nothing, but still sends.
    sent = ("activations_up_bits", "labels_up_bits", "updates_up_bits", "client_macs")
    answered = np.any([_column(lines, name, np.float64) > 0 for name in sent], axis=0)
    return np.bincount(
        _column(lines, "client_id", np.int64)[answered], minlength=clients
    )


def read_record(lines: Sequence[dict[str, Any]]) -> Record:
    """Converts lines of rounds.jsonl to a record.

    Raises:
      KeyError: if a line lacks a column.
    """

    def links(kind: str) -> Traffic:
        return Traffic(
            *(
                (_of_second_cut if link in AT_SECOND_CUT else _column)(
                    lines, link + kind, np.int64
                )
                for link in Traffic._fields
            )
        )

    return Record(
        client_id=_column(lines, "client_id", np.int64),
        traffic=links("_bits"),
        side=links("_side_bits"),
        client_macs=_column(lines, "client_macs", np.float64),
        server_macs=_column(lines, "server_macs", np.float64),
        tail_macs=_of_second_cut(lines, "tail_macs", np.float64),
    )
