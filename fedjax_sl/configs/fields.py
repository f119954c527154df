"""Fields of configurations by dotted name."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError


# At the top of config.json only: `from_json` renames nothing inside a part.
RENAMED = {"drop_late": "drop_stragglers"}
"""Names of fields in files of earlier versions, and their names now."""


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces names of earlier versions by those of this one."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def flattened(config: RunConfig) -> dict[str, Any]:
    """Returns all fields of a configuration by dotted name."""

    def flat(value: Any, name: str) -> dict[str, Any]:
        if dataclasses.is_dataclass(value):
            value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        # A dict holds the parameters of a program's own algorithm (`CustomConfig`).
        if not isinstance(value, dict):
            return {name: value}
        parts = [flat(one, f"{name}.{key}".lstrip(".")) for key, one in value.items()]
        return {key: value for part in parts for key, value in part.items()}

    # A class variable is not among the fields.
    return {"algorithm": config.algorithm, **flat(config, "")}


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Returns the fields that differ between configurations, but for the seed.

    Nor those of the channel, unless it excluded stragglers.
    """
    each = [flattened(config) for config in configs]
    strict = any(config.drop_stragglers for config in configs)
    # A dict keeps the order of the fields, and configurations may differ in class.
    names = dict.fromkeys(name for fields in each for name in fields)
    return [
        name
        for name in names
        if name != "seed"
        and not (name.startswith("channel.") and not strict)
        and len({repr(fields.get(name)) for fields in each}) > 1
    ]


def undecided(config: RunConfig) -> RunConfig:
    """Returns a configuration with what follows from its other fields left open again.

    A file has every field as it was decided, such as the end of a ramp in the middle of
    the run; a run that changes another field decides it anew.

    Args:
      config: with every open value decided.

    Returns:
      One that decides the same, as long as nothing in it changes.
    """
    try:
        decided = config.resolved()
    except (InputError, OSError):
        # Such as a network's file that has moved: options given beside it may mend it.
        return config
    for part in ("method", "model"):
        # Another package's method need not have a network to choose.
        fields = (
            dataclasses.fields(getattr(config, part)) if hasattr(config, part) else ()
        )
        for name in (field.name for field in fields if field.default is None):
            # One that others need, as noise a bound of the updates, is not open.
            with suppress(InputError):
                own = dataclasses.replace(getattr(config, part), **{name: None})
                left = dataclasses.replace(config, **{part: own})
                config = left if left.resolved() == decided else config
    return config
