"""Tests the published claims on FedSL (arXiv 2412.06414) over seeds.

Runs of one seed share data, initial model and cohorts, so options are compared within a
seed. An interval is the 95 % confidence interval of the mean over seeds (Student's t).
A claim holds if the interval lies below its limit, does not hold if it lies above, and
is open otherwise.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.fedsl_setting import CUTS, EVERYTHING, TECHNIQUES, settings
from fedjax_sl.reports.groups import interval


Rows = Sequence[dict[str, Any]]

LAST = 3
"""Last evaluations that a final accuracy is averaged over."""

MARGIN = 0.01
"""Accuracy that a run may lose and still count as no lower."""


class Claim(NamedTuple):
    """A claim, and the figure that decides it.

    Attributes:
      text: the claim.
      figure: name of the measured figure.
      mean, half: its mean over seeds, and half the width of the interval.
      limit: the claim holds if the figure is below it.
    """

    text: str
    figure: str
    mean: float
    half: float
    limit: float

    @property
    def verdict(self) -> str:
        """Whether the claim holds, in words."""
        if np.isnan(self.half):
            return "not measured"
        if self.mean + self.half < self.limit:
            return "holds"
        return "does not hold" if self.mean - self.half > self.limit else "open"


def runs_of(rows: Rows, change: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the runs with this change to plain split learning, by seed."""
    wanted = settings(change)
    found = [row for row in rows if row["settings"] == wanted]
    return sorted(found, key=lambda row: row["seed"])


def complete(rows: Rows, *changes: dict[str, Any]) -> bool:
    """Returns whether every seed has been run with each of these changes."""
    seeds = {row["seed"] for row in rows}
    return all(
        {r["seed"] for r in runs_of(rows, change)} == seeds for change in changes
    )


def finals(rows: Rows, change: dict[str, Any]) -> np.ndarray:
    """Returns the final accuracy of each run."""
    return np.array([np.mean(r["accuracy"][-LAST:]) for r in runs_of(rows, change)])


def until(rows: Rows, change: dict[str, Any], targets: Sequence[float], name: str):
    """Returns each run's cost when it first reaches its target, or in all if never."""
    costs = []
    for row, target in zip(runs_of(rows, change), targets, strict=True):
        reached = np.flatnonzero(np.array(row["accuracy"]) >= target)
        costs.append(row[name][reached[0] if len(reached) else -1])
    return np.array(costs, np.float64)


def targets(rows: Rows, *changes: dict[str, Any]) -> np.ndarray:
    """Returns for each seed the highest accuracy that all of these changes reach."""
    best = [[max(r["accuracy"]) for r in runs_of(rows, change)] for change in changes]
    return np.min(best, axis=0)


def _sooner(rows: Rows, text: str, change: dict[str, Any]) -> Claim:
    """Compares the simulated time to the same accuracy, as a ratio."""
    both = targets(rows, {}, change)
    ratio = np.log(until(rows, change, both, "seconds"))
    ratio -= np.log(until(rows, {}, both, "seconds"))
    figure = "log of the ratio of simulated seconds to the highest accuracy both reach"
    return Claim(text, figure, *interval(ratio), 0.0)


def _no_lower(rows: Rows, text: str, change: dict[str, Any]) -> Claim:
    lost = finals(rows, {}) - finals(rows, change)
    return Claim(text, "accuracy lost at the end", *interval(lost), MARGIN)


def _shallow_sooner(rows: Rows) -> Claim:
    plain = [CUTS[cut, "plain"] for cut in range(4)]
    every = targets(rows, *plain)
    taken = np.log([until(rows, change, every, "rounds") for change in plain])
    return Claim(
        "cuts in the first half converge in fewer rounds than those in the second",
        "log of the ratio of rounds to the highest accuracy all reach",
        *interval(taken[:2].mean(axis=0) - taken[2:].mean(axis=0)),
        0.0,
    )


def _shallow_robust(rows: Rows) -> Claim:
    lost = [
        finals(rows, CUTS[cut, "plain"]) - finals(rows, CUTS[cut, "50 % dropped"])
        for cut in range(4)
    ]
    return Claim(
        "cuts in the first half lose less when half of the activations are dropped",
        "difference of the accuracies lost",
        *interval(np.mean(lost[:2], axis=0) - np.mean(lost[2:], axis=0)),
        0.0,
    )


def claims(rows: Rows) -> list[Claim]:
    """Returns the claims that the runs so far can decide."""
    pruned, found = TECHNIQUES["pruned, 8 bits"], []
    if complete(rows, *TECHNIQUES.values()):
        found += [
            _sooner(rows, "35 % pruned and 8 bits reach an accuracy sooner", pruned),
            _no_lower(rows, "35 % pruned and 8 bits end no lower", pruned),
            _sooner(rows, "everything together reaches an accuracy sooner", EVERYTHING),
            _no_lower(rows, "everything together ends no lower", EVERYTHING),
        ]
    if complete(rows, *CUTS.values()):
        found += [_shallow_sooner(rows), _shallow_robust(rows)]
    return found
