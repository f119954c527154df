"""The points of a sweep: every combination of values, and every seed."""

import dataclasses
import difflib
import itertools
from collections.abc import Sequence
from typing import Any

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError


def parse_axis(text: str) -> tuple[str, list[str]]:
    """A field and its values, from `FIELD=VALUE,VALUE,...`.

    Raises:
      ValueError: if it is none.
    """
    name, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",")]
    if not (name and equals and all(found)):
        raise InputError(f"--grid {text}: expected FIELD=VALUE,VALUE,...")
    # Twice the same value is twice the same run, no further sample.
    if len(set(found)) < len(found):
        raise InputError(f"--grid {text}: expected each value once.")
    # Values stay texts: a sweep parses them as it parses any option.
    return name.replace("-", "_"), found


def check_field(config: RunConfig, name: str) -> None:
    """Refuses the name of a field that the configuration lacks.

    Raises:
      ValueError: if it lacks it, or is the seed, or of the channel and no deadline by
        which stragglers are excluded.
    """
    part: Any = config
    for word in name.split("."):
        fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
        known = [field.name for field in fields]
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"--grid {name}: unknown field {word!r}{meant}")
        part = getattr(part, word)
    if dataclasses.is_dataclass(part):
        raise InputError(f"--grid {name}: expected a field of it, such as {name}.x.")
    # Runs that differ in the seed alone are one setting, and averaged.
    if name == "seed":
        raise InputError("--grid seed: expected --seeds.")
    if name == "channel.deadline_s" and config.drop_stragglers:
        return
    if name.startswith("channel."):
        raise InputError(
            f"--grid {name}: expected it with `compare`, which needs no training; in a "
            "sweep only a deadline that --drop-stragglers has."
        )


def combinations(config: RunConfig, axes: Sequence[str]) -> list[list[str]]:
    """The options that make each combination of the grid's values.

    Args:
      config: whose fields they are.
      axes: texts `FIELD=VALUE,...`.

    Returns:
      Lists of options, the last axis changing fastest.

    Raises:
      ValueError: if a field is unknown, or given twice.
    """
    parsed = [parse_axis(text) for text in axes]
    names = [name for name, _ in parsed]
    for name in names:
        check_field(config, name)
        if names.count(name) > 1:
            raise InputError(f"--grid {name}: expected once.")
    choices = [
        [[f"--{name.replace('_', '-')}", value] for value in values]
        for name, values in parsed
    ]
    # Without axes this is one empty combination: a sweep of seeds alone.
    return [sum(chosen, []) for chosen in itertools.product(*choices)]
