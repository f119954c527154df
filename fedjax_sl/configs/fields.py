"""The fields of configurations by dotted name, and those in which some differ."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from fedjax_sl.configs.run_config import RunConfig


RENAMED = {"drop_late": "drop_stragglers"}
"""Fields that files of earlier versions have under another name."""


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a file under today's names."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def flattened(config: RunConfig) -> dict[str, Any]:
    """All fields of a configuration by dotted name."""

    def flat(value: Any, name: str) -> dict[str, Any]:
        if dataclasses.is_dataclass(value):
            value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if not isinstance(value, dict):
            return {name: value}
        parts = [flat(one, f"{name}.{key}".lstrip(".")) for key, one in value.items()]
        return {key: value for part in parts for key, value in part.items()}

    return {"algorithm": config.algorithm, **flat(config, "")}


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Names of the fields that are not the same in all, but for seed and channel."""
    each = [flattened(config) for config in configs]
    names = dict.fromkeys(name for one in each for name in one)
    return [
        name
        for name in names
        if name != "seed"
        and not name.startswith("channel.")
        and len({repr(one.get(name)) for one in each}) > 1
    ]
