"""Names of groups of runs, for pictures and sentences."""

from collections.abc import Sequence

import numpy as np

from fedjax_sl.reports.groups import Group
from fedjax_sl.reports.labels import words


MOST_NAMED = 4
"""Largest number of options that fit into a name beside a picture."""


def name_of(group: Group) -> str:
    """Returns a group's options as a short text, or its folder if they are many."""
    if len(group.label) > MOST_NAMED:
        return f"{group.name} ({group.title})"
    return words(group.label) or group.title


def names_of(groups: Sequence[Group]) -> list[str]:
    """Returns a unique name of each group for pictures."""
    names = [name_of(group) for group in groups]
    # Bars of one name would be drawn over one another.
    if len(set(names)) == len(names):
        return names
    return [f"{group.name} ({group.title})" for group in groups]


def best(groups: list[Group]) -> tuple[str, float]:
    """Returns the group of the highest mean final accuracy, and this accuracy."""
    means = [float(np.mean(group.final)) for group in groups]
    return names_of(groups)[int(np.argmax(means))], max(means)
