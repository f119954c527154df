"""FedSL's bound beside what a run measured: kept in its folder, and drawn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl import reading
from fedjax_sl.analysis.fedsl_bound import Setting, bound
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.methods import theory_of
from fedjax_sl.records import run_folder as folders
from fedjax_sl.theory.bound_constants import Estimate


class BoundCurve(NamedTuple):
    """What the theorem says of a run, and what was seen of it.

    Attributes:
      points: `[P]` rounds done where gradients were taken, the first 0.
      measured: `[P]` squared gradient there.
      rounds: `[V]` rounds R of the bound.
      bound: `[V]` on the mean squared gradient of the first R rounds.
      unpruned: `[V]` the same without the terms of pruning.
      momentum: of the run; the theorem has none.
      left_out: settings of the run that the theorem leaves out, momentum among them.
    """

    points: list[int]
    measured: list[float]
    rounds: list[int]
    bound: list[float]
    unpruned: list[float]
    momentum: float
    left_out: list[str] = []

    @property
    def running_mean(self) -> np.ndarray:
        """`[P - 1]` mean of what was measured before each point but the first."""
        sums = np.cumsum(self.measured)[:-1]
        return sums / np.arange(1, len(self.points))


def said_of(settings: list[str]) -> str:
    """One sentence about what is left out, as from `left_out`; empty if nothing is."""
    if not settings:
        return ""
    return (
        "The theorem is of plain SGD by all clients in every round, and ignores "
        f"{', '.join(settings)}."
    )


def curve_of(
    config: RunConfig, setting: Setting, points: Sequence[int], found: Estimate
) -> BoundCurve:
    """The bound of a configuration up to each round, beside what was measured.

    Args:
      config: of the run.
      setting: its, as its method gives it.
      points: rounds done where gradients were taken.
      found: there.

    Returns:
      A `BoundCurve`.

    Raises:
      ValueError: if the theorem does not cover the learning rate.
    """
    most = max(1, points[-1])
    rounds = np.unique(np.geomspace(1, most, 60).round().astype(int))
    about = theory_of(config)
    ratio = about.ratios(config)
    ratio = np.concatenate([ratio, np.full(max(0, most - len(ratio)), ratio[-1])])
    mean = np.cumsum(ratio) / np.arange(1, len(ratio) + 1)
    terms = [
        bound(
            found.constants,
            setting._replace(rounds=int(r), pruned=mean[r - 1], masked=mean[r - 1]),
        )
        for r in rounds
    ]
    return BoundCurve(
        points=list(points),
        measured=found.squared_gradient.tolist(),
        rounds=rounds.tolist(),
        bound=[one.total for one in terms],
        unpruned=[one.total - one.pruning - one.masking for one in terms],
        momentum=float(config.method.momentum),
        left_out=about.ignored(config),
    )


def write(found: BoundCurve, folder: Path) -> None:
    """Keeps it in a run's folder."""
    text = json.dumps(found._asdict(), indent=2) + "\n"
    folders.write_text(folder / folders.BOUND, text)


def read(folder: Path) -> BoundCurve | None:
    """What `write` kept in a run's folder, if anything.

    Raises:
      ValueError: if it cannot be understood.
    """
    path = folder / folders.BOUND
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = reading.read_json(path)
        return BoundCurve(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: expected what `bound` writes.") from error
