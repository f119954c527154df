"""Finds what other installed packages register by entry points."""

from collections.abc import Container
from importlib import metadata
from typing import Any

from fedjax_sl.errors import InputError


def installed(group: str, what: str, taken: Container[str]) -> dict[str, Any]:
    """Loads the objects of a group of entry points, by name.

    Args:
      group: of the entry points.
      what: the objects are, in an error message.
      taken: names that they must not have.

    Returns:
      Every object by the name of its entry point.

    Raises:
      ValueError: if one cannot be loaded, or has the name of another.
    """
    found: dict[str, Any] = {}
    for entry in metadata.entry_points(group=group):
        # Else the order of installation would decide what a configuration means.
        if entry.name in found or entry.name in taken:
            raise InputError(f"{what} {entry.name!r}: expected a name of its own.")
        try:
            found[entry.name] = entry.load()
        # Importing another package's code can fail in any way.
        except Exception as error:
            raise InputError(
                f"{what} {entry.name!r} of {entry.value}: cannot be loaded "
                f"({type(error).__name__}: {error})."
            ) from error
    return found
