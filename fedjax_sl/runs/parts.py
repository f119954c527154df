"""A sweep in parts, each for a process of its own."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Self

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records.sweep_folder import name_of
from fedjax_sl.runs.sweep import alike_by_configuration


class Part(NamedTuple):
    """One of several parts of a sweep.

    Attributes:
      number: of the part, 1 to `of`.
      of: number of parts.
    """

    number: int
    of: int

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.number}/{self.of}"

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Reads a part as it is typed, such as 3/16.

        Raises:
          ValueError: if it is none.
        """
        typed = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        part = cls(*map(int, typed.groups())) if typed else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise InputError(f"part={text!r}: expected K/N with K from 1 to N.")
        return part


def runs_of(part: Part, configs: Sequence[RunConfig]) -> list[int]:
    """Returns the numbers of the runs of a part; it follows from these arguments alone.

    Args:
      part: which one.
      configs: of all runs of the sweep.

    Returns:
      As many as there are of any other part, or one more or less; runs that share their
      programs are in as few parts as that allows.

    Raises:
      ValueError: if a value is out of range.
    """
    # One structure after another: a cut goes through few of them.
    runs = [number for group in alike_by_configuration(configs) for number in group]
    # By integers: one part ends where the next begins, and no run is in two or in none.
    first, end = ((part.number - n) * len(runs) // part.of for n in (1, 0))
    return sorted(runs[first:end])


def spans(numbers: Sequence[int]) -> str:
    """Lists runs of rising numbers, such as "run-0003 to run-0005, run-0009"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    ends = (dict.fromkeys((name_of(span[0]), name_of(span[-1]))) for span in found)
    return ", ".join(" to ".join(names) for names in ends)
