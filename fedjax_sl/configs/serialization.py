"""Writes configurations to JSON and reads them back."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from fedjax_sl import reading
from fedjax_sl.configs.fields import renamed
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.methods import methods


def to_json(config: RunConfig) -> str:
    """Returns the text of config.json."""
    # The name is a class variable, which `asdict` leaves out.
    values = {"algorithm": config.algorithm, **dataclasses.asdict(config)}
    return json.dumps(values, indent=2) + "\n"


def _read(kind: type, values: Any, where: str) -> Any:
    """Builds a configuration of a class from parsed JSON."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected an object, found {values!r:.40}.")
    hints = get_type_hints(kind)
    # Passed over, a misspelt field would silently be at its default.
    if unknown := sorted(set(values) - {f.name for f in dataclasses.fields(kind)}):
        raise InputError(f"{where}: unknown field {unknown[0]!r:.40}.")
    # JSON has no tuples.
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in given.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            given[name] = value = _read(hints[name], value, f"{where}: {name}")  # type: ignore[arg-type]
        if not _suits(value, hints[name]):
            raise InputError(
                f"{where}: {name}={value!r:.40}: expected {_shown(hints[name])}."
            )
    # The class checks ranges; its messages lack the file.
    try:
        return kind(**given)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _suits(value: Any, hint: Any) -> bool:
    """Returns whether a value has a type; numbers are finite and below 2^63."""
    for item in value if isinstance(value, tuple) else (value,):
        # A bool is an int in Python; JSON allows NaN, infinity and huge integers.
        if isinstance(item, bool) and hint is not bool:
            return False
        if isinstance(item, int | float) and not abs(item) < 2**63:
            return False
    try:
        # By default only the first item of a collection is checked.
        every = CollectionCheckStrategy.ALL_ITEMS
        check_type(value, hint, collection_check_strategy=every)
    except TypeCheckError:
        return False
    return True


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _as_before(kind: type, values: Any, before: dict[str, Any]) -> Any:
    """Fills in what an earlier version did that had fewer fields.

    A program writes every field, while a person may leave most of them at their
    defaults: only a file with the greater part of them is by an earlier version.
    """
    if not isinstance(values, dict) or any(name in values for name in before):
        return values
    by_program = 2 * len(values) > len(dataclasses.fields(kind))
    return {**before, **values} if by_program else values


def from_json(path: Path) -> RunConfig:
    """Reads a config.json.

    Raises:
      ValueError: if it is no configuration; the message names the field.
      OSError: if it cannot be read.
    """
    values = reading.read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object, found {values!r:.40}.")
    values, known = renamed(values), methods()
    name = values.pop("algorithm", None)
    # A damaged file may have a list here, which `in` cannot look up.
    if not isinstance(name, str) or name not in known:
        raise InputError(
            f"{path}: algorithm={name!r:.40}: expected one of {tuple(known)}."
        )
    kind = known[name].config
    for part, hint in get_type_hints(kind).items():
        if part in values and dataclasses.is_dataclass(hint):
            found = _as_before(hint, values[part], kind.before.get(part, {}))  # type: ignore[arg-type]
            values[part] = _read(hint, found, f"{path}: {part}")  # type: ignore[arg-type]
    return _read(kind, values, str(path))
