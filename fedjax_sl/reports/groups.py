"""Groups of finished runs that differ in nothing but the seed."""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.configs.fields import flattened
from fedjax_sl.records.finished_run import Finished, LearningCurve, learning_curve
from fedjax_sl.reports.labels import NONE, folder_names, labels


LEARNED = 0.05
"""An accuracy counts as above chance from this share of the way from chance to 1."""

ROUNDING = 2.5e-7
"""Error of accuracies in records of earlier versions, which have them in float32; less
than half an example of two million."""

COSTS = ("rounds", "epochs", "bits", "seconds", "joules")


class Group(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      name: folder of the first run, and the number of further runs.
      label: value of each option that differs between groups.
      runs: the runs.
      curves: learning curve of each run.
    """

    name: str
    label: dict[str, str]
    runs: list[Finished]
    curves: list[LearningCurve]

    @property
    def title(self) -> str:
        """Display name of their method."""
        return self.runs[0].config.title

    @property
    def common(self) -> np.ndarray:
        """Rounds after which all runs were evaluated, `[V]`."""
        return _shared([curve.rounds for curve in self.curves])

    def at_common(self, name: str) -> np.ndarray:
        """Returns a field of each run's learning curve at these rounds, `[R, V]`."""
        # A run that was made longer has an evaluation where it ended before.
        return np.array(
            [
                getattr(curve, name)[np.isin(curve.rounds, self.common)]
                for curve in self.curves
            ]
        )

    @property
    def final(self) -> list[float]:
        """Accuracy of each run at the last evaluation that all of them have."""
        return self.at_common("accuracy")[:, -1].tolist()

    def final_cost(self, name: str) -> float:
        """Returns the mean of a cost up to that evaluation."""
        return float(self.at_common(name)[:, -1].mean())


def _shared(rounds: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the rounds that are in all of them."""
    return functools.reduce(np.intersect1d, rounds)


def _fits(run: Finished, others: Sequence[Finished]) -> bool:
    """Whether a run is one more sample of what the others are samples of."""
    # A seed that occurs twice is none.
    if run.config.seed in {other.config.seed for other in others}:
        return False
    evaluated = [[line["round"] for line in one.lines] for one in (run, *others)]
    return len(_shared([np.array(rounds) for rounds in evaluated])) > 0


def _same(run: Finished) -> str:
    """Returns a key that runs of a group share: every field but the seed."""
    fields = flattened(run.config)
    del fields["seed"]
    # The channel is replaced in a report; it matters only if it excluded stragglers.
    return repr(
        {
            name: value
            for name, value in fields.items()
            if run.config.drop_stragglers or not name.startswith("channel.")
        }
    )


def grouped(runs: Sequence[Finished], channel: Channel) -> list[Group]:
    """Groups runs that differ in nothing but the seed, with costs over a channel.

    A run that was never evaluated after the same round as all others of a group, or has
    the seed of one, begins another.
    """
    groups: list[list[int]] = []
    alike: dict[str, list[list[int]]] = {}
    for index, run in enumerate(runs):
        candidates = alike.setdefault(_same(run), [])
        for members in candidates:
            if _fits(run, [runs[n] for n in members]):
                members.append(index)
                break
        else:
            candidates.append([index])
            groups.append(candidates[-1])
    each_label = labels([runs[members[0]].config for members in groups])
    names = folder_names([run.folder for run in runs])
    return [
        Group(
            names[members[0]] + (f" +{len(members) - 1}" if len(members) > 1 else ""),
            label,
            [runs[n] for n in members],
            [learning_curve(runs[n], channel) for n in members],
        )
        for label, members in zip(each_label, groups, strict=True)
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and half its 95 % confidence interval (Student's t)."""
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return float(found.mean()), np.nan
    error = found.std(ddof=1) / np.sqrt(len(found))
    # Not `scipy.stats`, which takes long to import.
    quantile = special.stdtrit(len(found) - 1, 0.975)
    return float(found.mean()), float(quantile * error)


class AtTarget(NamedTuple):
    """What it takes the runs of a group to first reach an accuracy.

    Attributes:
      reached: `[R]` bool, which runs do.
      costs: each cost `[R]`; of a run that never does, to its end.
    """

    reached: np.ndarray
    costs: dict[str, np.ndarray]

    def text(self, name: str, digits: int, *, factor: float = 1.0) -> str:
        """Formats the mean of a cost, to so many significant digits.

        After "> " if some run never reaches the accuracy, whose own cost is larger than
        what it took to its end; `NONE` if no run does.
        """
        if not self.reached.any():
            return NONE
        more = "" if self.reached.all() else "> "
        return f"{more}{factor * self.costs[name].mean():.{digits}g}"


def at_target(group: Group, target: float) -> AtTarget:
    """Finds where the runs of a group first reach an accuracy."""
    reached = [curve.accuracy >= target - ROUNDING for curve in group.curves]
    # Of a run that never does, the last one.
    where = [int(one.argmax()) if one.any() else len(one) - 1 for one in reached]
    costs = {
        name: np.array(
            [getattr(c, name)[n] for c, n in zip(group.curves, where, strict=True)],
            np.float64,
        )
        for name in COSTS
    }
    return AtTarget(np.array([one.any() for one in reached]), costs)


class Target(NamedTuple):
    """A target accuracy, and a sentence on how it was chosen."""

    accuracy: float
    note: str = ""


def usual_target(groups: Sequence[Group]) -> Target:
    """Returns the highest accuracy reached by every run that is ever above chance.

    Chance is the share of the most frequent class among the test examples.
    """
    runs = [run for group in groups for run in group.runs]
    curves = [curve for group in groups for curve in group.curves]
    # Runs may be evaluated on different images: the highest chance holds for all.
    chance = max(float(run.lines[-1].get("majority_rate", 0.0)) for run in runs)
    above = chance + LEARNED * (1 - chance)
    highest = [float(curve.accuracy.max()) for curve in curves]
    # A run at chance would set a target that needs no learning.
    learned = [accuracy for accuracy in highest if accuracy >= above]
    if not learned:
        return Target(above, f"No run is above chance, {chance:.4g}.")
    rest = f" above chance, {chance:.4g}," if len(learned) < len(highest) else ""
    least = min(learned)
    note = f"{least:.4g} is the highest accuracy that all runs{rest} have reached."
    return Target(least, note if len(runs) > 1 else "")


def progress_axis(groups: Sequence[Group]) -> Literal["rounds", "epochs"] | None:
    """Returns "rounds" if a round trains on as much data in all runs, else "epochs".

    None if rounds differ and a record of an earlier version lacks epochs.
    """
    configs = [group.runs[0].config for group in groups]
    # Epochs for a single example: comparable without loading the data.
    rounds = {
        (config.algorithm, config.epochs_per_round(1), config.data.train_examples)
        for config in configs
    }
    if len(rounds) == 1:
        return "rounds"
    known = all(np.isfinite(c.epochs).all() for g in groups for c in g.curves)
    return "epochs" if known else None
