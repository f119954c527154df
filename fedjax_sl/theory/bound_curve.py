"""FedSL's bound beside the measured gradients of a run, stored in its folder."""

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
    """The bound of a run by rounds, and its measured gradients.

    Attributes:
      points: `[P]` rounds done where gradients were taken, the first 0.
      measured: `[P]` squared gradient at these points.
      rounds: `[V]` rounds R of the bound.
      bound: `[V]` bound on the mean squared gradient of the first R rounds.
      unpruned: `[V]` the same without the terms of pruning.
      momentum: momentum of the run; the theorem has none.
      left_out: options of the run that the theorem ignores, momentum among them.
    """

    points: list[int]
    measured: list[float]
    rounds: list[int]
    bound: list[float]
    unpruned: list[float]
    momentum: float
    # A default for files of earlier versions, which lack it.
    left_out: list[str] = []

    @property
    def running_mean(self) -> np.ndarray:
        """`[P - 1]` mean squared gradient of the points before each but the first."""
        sums = np.cumsum(self.measured)[:-1]
        return sums / np.arange(1, len(self.points))


def said_of(settings: list[str]) -> str:
    """Returns a sentence about ignored options, as in `left_out`; empty if none."""
    if not settings:
        return ""
    return (
        "The theorem is of plain SGD by all clients in every round, and ignores "
        f"{', '.join(settings)}."
    )


def curve_of(
    config: RunConfig,
    setting: Setting,
    points: Sequence[int],
    found: Estimate,
    *,
    ratio: np.ndarray,
) -> BoundCurve:
    """Computes the bound of a run up to each round, beside its measured gradients.

    Args:
      config: configuration of the run.
      setting: hyperparameters of the theorem, from the run's method.
      points: rounds done where gradients were taken.
      found: estimate from the gradients at these points.
      ratio: `[T]` rho_t of every round of the run.

    Returns:
      A `BoundCurve`.

    Raises:
      ValueError: if the theorem does not cover the learning rate.
    """
    most = max(1, points[-1])
    # Denser early, where the bound falls as 1 / R.
    rounds = np.unique(np.geomspace(1, most, 60).round().astype(int))
    # Gradients may be taken beyond the run's last round, where the ratio stays.
    ratio = np.concatenate([ratio, np.full(max(0, most - len(ratio)), ratio[-1])])
    mean = np.cumsum(ratio) / np.arange(1, len(ratio) + 1)
    # kappa is taken as rho, as if the gradient's energy were spread evenly.
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
        bound=[each.total for each in terms],
        # The drift keeps its factor of 3, as the run is still a pruned one.
        unpruned=[each.total - each.pruning - each.masking for each in terms],
        momentum=float(config.method.momentum),
        left_out=theory_of(config).ignored(config),
    )


def write(found: BoundCurve, folder: Path) -> None:
    """Writes a curve to bound.json of a run's folder."""
    text = json.dumps(found._asdict(), indent=2) + "\n"
    folders.write_text(folder / folders.BOUND, text)


def read(folder: Path) -> BoundCurve | None:
    """Reads bound.json of a run's folder; None if there is none.

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
