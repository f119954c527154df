"""Finished runs, those together that differ in nothing but the seed."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.configs.fields import flattened
from fedjax_sl.records.finished_run import Finished, LearningCurve, learning_curve
from fedjax_sl.reports.labels import folder_names, labels


LEARNED = 0.05
"""Of the way from chance to 1, how far an accuracy is that is above chance."""

COSTS = ("rounds", "epochs", "bits", "seconds", "joules")


class Group(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      name: the folder of the first one, and how many there are besides.
      label: value of each setting that differs between groups.
      runs: them.
      curves: of each.
    """

    name: str
    label: dict[str, str]
    runs: list[Finished]
    curves: list[LearningCurve]

    @property
    def title(self) -> str:
        """What their method is called."""
        return self.runs[0].config.title

    @property
    def final(self) -> list[float]:
        """Accuracy of each run where the one that has come least far has its last."""
        least = min(len(one.accuracy) for one in self.curves)
        return [float(one.accuracy[least - 1]) for one in self.curves]


def _same(run: Finished) -> str:
    """What runs have in common that are averaged: everything but the seed.

    The channel they were counted over does not matter, unless it decided who took part.
    """
    every = flattened(run.config)
    del every["seed"]
    return repr(
        {
            name: value
            for name, value in every.items()
            if run.config.drop_stragglers or not name.startswith("channel.")
        }
    )


def grouped(runs: Sequence[Finished], channel: Channel) -> list[Group]:
    """The runs by their settings, seeds together; a seed that comes twice is no second
    one, and stays apart.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    before: Counter[tuple[str, int]] = Counter()
    for place, run in enumerate(runs):
        same, seed = _same(run), run.config.seed
        groups.setdefault((same, before[same, seed]), []).append(place)
        before[same, seed] += 1
    told = labels([runs[places[0]].config for places in groups.values()])
    names = folder_names([run.folder for run in runs])
    return [
        Group(
            names[places[0]] + (f" +{len(places) - 1}" if len(places) > 1 else ""),
            label,
            [runs[n] for n in places],
            [learning_curve(runs[n], channel) for n in places],
        )
        for label, places in zip(told, groups.values(), strict=True)
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval (Student's t)."""
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return float(found.mean()), np.nan
    error = found.std(ddof=1) / np.sqrt(len(found))
    quantile = special.stdtrit(len(found) - 1, 0.975)
    return float(found.mean()), float(quantile * error)


def at_target(group: Group, target: float) -> dict[str, list[float]]:
    """What each run that reaches the accuracy had spent when it first did."""
    spent: dict[str, list[float]] = {name: [] for name in COSTS}
    for one in group.curves:
        reached = np.flatnonzero(one.accuracy >= target)
        for name, values in spent.items():
            if len(reached):
                values.append(float(getattr(one, name)[reached[0]]))
    return spent


class Target(NamedTuple):
    """An accuracy to reach, and a sentence on who does."""

    accuracy: float
    note: str = ""


def usual_target(groups: Sequence[Group]) -> Target:
    """The highest accuracy that every run has reached which was ever above chance.

    Chance is the share of the most frequent class among the test examples.
    """
    runs = [run for group in groups for run in group.runs]
    curves = [one for group in groups for one in group.curves]
    chance = max(float(run.lines[-1].get("majority_rate", 0.0)) for run in runs)
    above = chance + LEARNED * (1 - chance)
    highest = [float(one.accuracy.max()) for one in curves]
    learned = [accuracy for accuracy in highest if accuracy >= above]
    if not learned:
        return Target(above, f"No run is above chance, {chance:.4g}.")
    rest = f" above chance, {chance:.4g}," if len(learned) < len(highest) else ""
    least = min(learned)
    note = f"{least:.4g} is the highest accuracy that all runs{rest} have reached."
    return Target(least, note if len(runs) > 1 else "")


def progress_axis(groups: Sequence[Group]) -> Literal["rounds", "epochs"] | None:
    """What tells how far runs are: rounds, if one means the same in all, or epochs.

    None if rounds differ and a record, of an earlier version, does not tell the epochs.
    """
    configs = [group.runs[0].config for group in groups]
    rounds = {
        (one.algorithm, one.epochs_per_round(1), one.data.train_examples)
        for one in configs
    }
    if len(rounds) == 1:
        return "rounds"
    told = all(np.isfinite(c.epochs).all() for g in groups for c in g.curves)
    return "epochs" if told else None
