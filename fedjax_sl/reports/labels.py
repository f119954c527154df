"""Labels of runs: the options in which they differ, and their folders."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjax_sl.configs.fields import flattened
from fedjax_sl.configs.run_config import RunConfig


NONE = "–"
"""Text of a cell without a value."""

METHOD = "method"
"""The label whose value is the display name of the method."""


def without_effect(config: RunConfig) -> set[str]:
    """Returns the fields without effect, given the values of the others."""
    found = {f"data.{name}" for name in config.data.idle}
    if config.corruption_probability == 0:
        found.add("corruption")
    # Whether a method has networks to choose from is its own affair.
    model = getattr(config, "model", None)
    found |= {f"model.{name}" for name in getattr(model, "idle", ())}
    return found | {f"method.{name}" for name in config.idle}


def with_effect(config: RunConfig) -> dict[str, Any]:
    """Returns the fields that have an effect on what a run learns, by dotted name."""
    idle, fields = without_effect(config), flattened(config)
    # Its own channel decides who is a straggler, if any are excluded; costs are those
    # of a report's channel.
    if not config.drop_stragglers:
        idle |= {name for name in fields if name.startswith("channel.")}
    return {name: value for name, value in fields.items() if name not in idle}


def shown(value: Any) -> str:
    """Formats a value for readers."""
    if value is None:
        return NONE
    if isinstance(value, tuple):
        return "/".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def words(label: dict[str, str]) -> str:
    """Joins a label into one text; options that do not apply are skipped."""
    return ", ".join(
        value if name == METHOD else f"{name} {value}"
        for name, value in label.items()
        if value != NONE
    )


def titles(configs: Sequence[RunConfig]) -> str:
    """Joins the display names of the methods of runs, each once."""
    *most, last = dict.fromkeys(config.title for config in configs)
    return f"{', '.join(most)} and {last}" if most else last


def accuracy_of(configs: Sequence[RunConfig]) -> str:
    """Returns what the accuracies of runs are of, if of the same split."""
    found = {config.data.accuracy for config in configs}
    return found.pop() if len(found) == 1 else "accuracy"


def labels(configs: Sequence[RunConfig]) -> list[dict[str, str]]:
    """Returns for each run the options that differ, by their shortest unique name.

    A field is included if runs in which it has an effect differ in its value; runs in
    which it has none get a dash. The seed is ignored, and the channel of runs that
    exclude nobody by its deadline.
    """
    each = [with_effect(config) for config in configs]
    titles = [config.title for config in configs]
    apart = len(set(titles)) > 1
    every = dict.fromkeys(name for fields in each for name in fields)
    # Where titles differ, what they say needs no column of its own.
    in_title = {"algorithm"}
    in_title |= {f"method.{name}" for config in configs for name in config.in_title}
    names = [
        name
        for name in every
        if name != "seed"
        and not (apart and name in in_title)
        # As text: not every field has a hash.
        and len({repr(fields[name]) for fields in each if name in fields}) > 1
    ]
    short = _shortened(names)
    return [
        ({METHOD: title} if apart else {})
        | {short[name]: shown(fields.get(name)) for name in names}
        for title, fields in zip(titles, each, strict=True)
    ]


def _shortened(names: Sequence[str]) -> dict[str, str]:
    # A kind is named by what it is a kind of.
    last = {name: name.removesuffix(".kind").rpartition(".")[2] for name in names}
    # No field may be shortened to the label of the method.
    count = Counter([METHOD, *last.values()])
    return {name: end if count[end] == 1 else name for name, end in last.items()}


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Returns names of folders, with as many parents as it takes to be unique."""
    paths = [folder.resolve().parts for folder in folders]
    longest = max(map(len, paths))

    def cut(length: int) -> list[str]:
        return ["/".join(parts[-length:]) for parts in paths]

    found = (cut(n) for n in range(1, longest + 1))
    unique = (names for names in found if len(set(names)) == len(set(paths)))
    return next(unique, cut(1))
