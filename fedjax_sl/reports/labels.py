"""What runs are called, and in which of their settings they differ."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjax_sl.configs.fields import flattened
from fedjax_sl.configs.run_config import RunConfig


NONE = "–"
"""In a cell that has no value."""

METHOD = "method"
"""The label that tells what the method is called."""

OF_PARTITIONS = {
    "data.alpha": "dirichlet",
    "data.min_size": "dirichlet",
    "data.shards_per_client": "shards",
    "data.classes_per_client": "pathological",
    "data.major_share": "mixed",
}
"""The partition that a field belongs to."""


def _without_effect(config: RunConfig) -> set[str]:
    """Names of the fields that change nothing, as the others are."""
    found = {n for n, kind in OF_PARTITIONS.items() if kind != config.data.partition}
    if config.corruption_probability == 0:
        found.add("corruption")
    return found | {f"method.{name}" for name in config.idle}


def with_effect(config: RunConfig) -> dict[str, Any]:
    """The fields of a configuration that matter to it, by dotted name."""
    idle = _without_effect(config)
    return {name: v for name, v in flattened(config).items() if name not in idle}


def shown(value: Any) -> str:
    """A value as a reader writes it."""
    if value is None:
        return NONE
    if isinstance(value, tuple):
        return "/".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def words(label: dict[str, str]) -> str:
    """Settings as one text: the method's name says what it is, what does not apply is
    left out.
    """
    return ", ".join(
        value if name == METHOD else f"{name} {value}"
        for name, value in label.items()
        if value != NONE
    )


def titles(configs: Sequence[RunConfig]) -> str:
    """What the methods of runs are called, each once."""
    *most, last = dict.fromkeys(config.title for config in configs)
    return f"{', '.join(most)} and {last}" if most else last


def labels(configs: Sequence[RunConfig]) -> list[dict[str, str]]:
    """Of each run what tells it from others, by the shortest name that is one field's.

    A field is shown if those runs that it matters to have different values of it; the
    channel and the seed are not looked at. Where it does not matter a dash stands.
    """
    each = [with_effect(config) for config in configs]
    titles = [config.title for config in configs]
    apart = len(set(titles)) > 1
    every = dict.fromkeys(name for one in each for name in one)
    in_title = {"algorithm"}
    in_title |= {f"method.{name}" for config in configs for name in config.in_title}
    names = [
        name
        for name in every
        if name != "seed"
        and not name.startswith("channel.")
        and not (apart and name in in_title)
        and len({repr(one[name]) for one in each if name in one}) > 1
    ]
    short = _shortened(names)
    return [
        ({METHOD: title} if apart else {})
        | {short[name]: shown(one.get(name)) for name in names}
        for title, one in zip(titles, each, strict=True)
    ]


def _shortened(names: Sequence[str]) -> dict[str, str]:
    last = {name: name.rpartition(".")[2] for name in names}
    count = Counter([METHOD, *last.values()])
    return {name: end if count[end] == 1 else name for name, end in last.items()}


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Of each folder its name, with those it lies in as far as it takes to tell them
    apart.
    """
    paths = [folder.resolve().parts for folder in folders]
    longest = max(map(len, paths))

    def cut(length: int) -> list[str]:
        return ["/".join(parts[-length:]) for parts in paths]

    found = (cut(n) for n in range(1, longest + 1))
    names = next((one for one in found if len(set(one)) == len(set(paths))), cut(1))
    return names
