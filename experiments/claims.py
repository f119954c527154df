"""Claims tested over seeds.

Runs of one seed share data, initial model and cohorts, so options are compared within a
seed. An interval is the 95 % confidence interval of the mean over seeds (Student's t).
A claim holds if the interval lies below its limit, does not hold if it lies above, and
is open otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.reports.groups import interval


Rows = Sequence[Mapping[str, Any]]

LAST = 3
"""Last evaluations that a final accuracy is averaged over: FedAvg's goes up and down
from round to round."""


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


def final(row: Mapping[str, Any], view: str = "accuracy") -> float:
    """Returns a run's final accuracy, of the model in this column."""
    return float(np.mean(row[view][-LAST:]))


def spread(values: Iterable[float], digits: int) -> str:
    """Formats the mean and its interval, if there are several values."""
    mean, half = interval(list(values))
    return f"{mean:.{digits}f}" + ("" if np.isnan(half) else f" ± {half:.{digits}f}")


def verdicts(claims: Iterable[Claim]) -> str:
    """Formats claims as Markdown."""
    lines = ["| claim | measured | mean ± 95 % | holds below | verdict |", "|---" * 5]
    lines[1] += "|"
    for claim in claims:
        one = np.isnan(claim.half)
        figure = f"{claim.mean:.3f}" + ("" if one else f" ± {claim.half:.3f}")
        cells = (claim.text, claim.figure, figure, f"{claim.limit:g}", claim.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
