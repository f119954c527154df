"""The published claims on FedSL (arXiv 2412.06414), one of ours, and their runs."""

from typing import Any

import numpy as np

from experiments.claims import Claim, Rows, final
from experiments.fedsl_setting import (
    COMPRESSORS,
    CUTS,
    SCHEDULES,
    TECHNIQUES,
    settings,
)
from fedjax_sl.reports.groups import interval


MARGIN = 0.01
"""Accuracy that a run may lose and still count as no lower."""

DENSE = "accuracy"
VIEWS = {DENSE: "", "pruned_accuracy": ", the pruned model"}
"""Columns of accuracies, and what is evaluated."""

CHANGES = {
    "pruned, 8 bits": TECHNIQUES["pruned, 8 bits"],
    "everything": TECHNIQUES["everything"],
    # Not published: what compresses most of the uplink instead.
    "activations in 4 bits": COMPRESSORS["uniform, 4 bits"],
}
"""What is compared with plain split learning."""

COSTS = {
    "seconds": "sooner",
    "slow_seconds": "sooner in a tenth of the band",
    "steady_seconds": "sooner without fading",
    "uplink_bits": "for fewer bits up",
    "joules": "for fewer joules",
}
"""Columns of costs, and what is claimed of them."""


def runs_of(rows: Rows, change: dict[str, Any]) -> Rows:
    """Returns the runs with this change to plain split learning, by seed."""
    wanted = settings(change)
    found = [row for row in rows if row["settings"] == wanted]
    return sorted(found, key=lambda row: row["seed"])


def common(rows: Rows, *changes: dict[str, Any]) -> Rows:
    """Returns the rows of the seeds that every one of these changes was run with."""
    seeds = [{row["seed"] for row in runs_of(rows, change)} for change in changes]
    shared = set.intersection(*seeds) if seeds else set()
    return [row for row in rows if row["seed"] in shared]


def costs_in(rows: Rows) -> list[str]:
    """Returns the costs that all these runs have: earlier rows lack some."""
    return [cost for cost in COSTS if all(cost in row for row in rows)]


def shorter(rows: Rows) -> list[dict[str, Any]]:
    """Returns the plain scheme's shorter schedules that every seed was run with."""
    seeds = {row["seed"] for row in rows}
    return [
        v for v in SCHEDULES.values() if {r["seed"] for r in runs_of(rows, v)} == seeds
    ]


def finals(rows: Rows, change: dict[str, Any], view: str = DENSE) -> np.ndarray:
    """Returns the final accuracy of each run."""
    return np.array([final(row, view) for row in runs_of(rows, change)])


def until(
    rows: Rows,
    change: dict[str, Any],
    targets: np.ndarray,
    cost: str,
    *,
    view: str = DENSE,
    never: float | None = None,
) -> np.ndarray:
    """Returns each run's cost when it first reaches its target.

    Where it never does, the cost is that of the whole run, or `never` if given.
    """
    costs = []
    for row, target in zip(runs_of(rows, change), targets, strict=True):
        reached = np.flatnonzero(np.array(row[view]) >= target)
        last = row[cost][-1] if never is None else never
        costs.append(row[cost][reached[0]] if len(reached) else last)
    return np.array(costs, np.float64)


def targets(rows: Rows, *changes: dict[str, Any], view: str = DENSE) -> np.ndarray:
    """Returns for each seed the highest accuracy that all of these changes reach."""
    best = [[max(r[view]) for r in runs_of(rows, change)] for change in changes]
    return np.min(best, axis=0)


def _cheaper(rows: Rows, name: str, cost: str, view: str) -> Claim:
    """Compares the cost of the highest accuracy that both reach, as a ratio."""
    change = CHANGES[name]
    # The plain scheme prunes nothing, so that both of its views are the same.
    both = targets(rows, {}, change, view=view)
    ratio = np.log(until(rows, change, both, cost, view=view))
    ratio -= np.log(until(rows, {}, both, cost))
    text = f"{name}: an accuracy {COSTS[cost]}{VIEWS[view]}"
    return Claim(text, f"log of the ratio of {cost}", *interval(ratio.tolist()), 0.0)


def _cheaper_than_any(rows: Rows, name: str, cost: str, view: str) -> Claim:
    """The same, against the cheapest of the plain scheme's schedules in each seed.

    Which schedule that is is not known before a run: the comparison favours the plain
    scheme, of those schedules that all these seeds have been run with.
    """
    change, plain = CHANGES[name], ({}, *shorter(rows))
    both = targets(rows, {}, change, view=view)
    every = [until(rows, one, both, cost, never=np.inf) for one in plain]
    ratio = np.log(until(rows, change, both, cost, view=view))
    ratio -= np.log(np.min(every, axis=0))
    text = f"{name}: an accuracy {COSTS[cost]}{VIEWS[view]}, than on any schedule"
    return Claim(text, f"log of the ratio of {cost}", *interval(ratio.tolist()), 0.0)


def _no_lower(rows: Rows, name: str, view: str) -> Claim:
    lost = finals(rows, {}) - finals(rows, CHANGES[name], view)
    text = f"{name}: ends no lower{VIEWS[view]}"
    return Claim(text, "accuracy lost at the end", *interval(lost.tolist()), MARGIN)


def _shallow_sooner(rows: Rows) -> Claim:
    plain = [CUTS[cut, "plain"] for cut in range(4)]
    every = targets(rows, *plain)
    taken = np.log([until(rows, change, every, "rounds") for change in plain])
    return Claim(
        "cuts in the first half converge in fewer rounds than those in the second",
        "log of the ratio of rounds to the highest accuracy all reach",
        *interval((taken[:2].mean(axis=0) - taken[2:].mean(axis=0)).tolist()),
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
        *interval((np.mean(lost[:2], axis=0) - np.mean(lost[2:], axis=0)).tolist()),
        0.0,
    )


def claims(rows: Rows) -> list[Claim]:
    """Returns the claims that the runs so far can decide."""
    found = []
    for name, change in CHANGES.items():
        if mine := common(rows, {}, change):
            # Where nothing is pruned, both models are one.
            for view in VIEWS if "prune_ratio" in change else (DENSE,):
                found += [_cheaper(mine, name, c, view) for c in costs_in(mine)]
                found.append(_no_lower(mine, name, view))
    for name, change in CHANGES.items():
        if (mine := common(rows, {}, change)) and shorter(mine):
            for view in VIEWS if "prune_ratio" in change else (DENSE,):
                found += [
                    _cheaper_than_any(mine, name, c, view) for c in costs_in(mine)
                ]
    if mine := common(rows, *CUTS.values()):
        found += [_shallow_sooner(mine), _shallow_robust(mine)]
    return found
