"""The published claims on FedSL (arXiv 2412.06414), and what decides them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.claims import Claim, Rows, final
from experiments.fedsl_setting import CUTS, EVERYTHING, TECHNIQUES, settings
from fedjax_sl.reports.groups import interval


MARGIN = 0.01
"""Accuracy that a run may lose and still count as no lower."""


def runs_of(rows: Rows, change: dict[str, Any]) -> Rows:
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
    return np.array([final(row) for row in runs_of(rows, change)])


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
