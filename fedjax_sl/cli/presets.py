"""What each name of a method starts from, and a file instead of a name."""

from pathlib import Path

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import CONFIG


def option(arguments: list[str], name: str) -> str | None:
    """What follows an option, if it is given."""
    for place, word in enumerate(arguments):
        option, equals, joined = word.partition("=")
        if option == name:
            return joined if equals else (arguments[place + 1 :] or [""])[0]
    return None


def _file(arguments: list[str]) -> Path | None:
    """The config.json to start from: one given, or that of the run to go on with."""
    given, folder = option(arguments, "--config"), option(arguments, "--folder")
    if given is not None:
        return Path(given)
    if "--resume" not in arguments or folder is None:
        return None
    stored = Path(folder) / CONFIG
    return stored if stored.exists() else None


def start_of(arguments: list[str]) -> tuple[str, list[str], RunConfig]:
    """The method's name, its options, and the configuration that they change.

    Args:
      arguments: `[METHOD] [OPTIONS]` as typed.

    Returns:
      The three of them.

    Raises:
      ValueError: if the method is unknown, or not that of the file given.
      OSError: if the file cannot be read.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    name, rest = (
        (arguments[0], arguments[1:]) if named else (next(iter(presets())), arguments)
    )
    known = presets()
    if name not in known:
        raise InputError(f"unknown method {name!r}: expected one of {tuple(known)}.")
    path, (_, preset) = _file(rest), known[name]
    if path is None:
        return name, rest, preset.run
    config = from_json(path)
    if named and config.algorithm != preset.run.algorithm:
        raise InputError(f"{path} is of a run of {config.algorithm}, not of {name}.")
    return config.algorithm, rest, config
