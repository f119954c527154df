"""Vets the files of a prepared set before TFDS opens them.

They name the classes of its features, and TFDS imports the module of a class that it
does not know: an untrusted set could run arbitrary code.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fedjax_sl import reading


CLASS_NAMES = ("pythonClassName", "python_class_name", "type")
"""Keys of a class name: as TFDS writes it, as it also reads it, and a former one."""

SHARD = re.compile(r"-\d+-of-\d+$")


class Untrusted(ValueError):
    """A file of a prepared set is not opened; the message says why."""


def known_features() -> set[str]:
    """Returns the full names of TFDS's own feature classes."""
    import tensorflow_datasets as tfds

    base, names = tfds.features.FeatureConnector, set()
    for kind in vars(tfds.features).values():
        if isinstance(kind, type) and issubclass(kind, base):
            names |= {f"{kind.__module__}.{kind.__name__}"}
            names |= set(vars(kind).get("ALIASES", ()))  # former names
    return names


def classes_in(values: Any) -> Iterator[str]:
    """Yields class names in parsed JSON, and in strings that contain JSON."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key in CLASS_NAMES and isinstance(value, str):
                yield value
            else:
                yield from classes_in(value)
    elif isinstance(values, list):
        for value in values:
            yield from classes_in(value)
    elif isinstance(values, str):
        # A description may hold another as a text, in which a class could hide.
        try:
            inner = json.loads(values)
        except ValueError:
            return
        yield from classes_in(inner)


def check_files(paths: Iterable[Path]) -> None:
    """Rejects files that are not regular, and descriptions that are too long.

    Args:
      paths: of shards and descriptions; folders and missing files pass.

    Raises:
      Untrusted: naming the file.
      OSError: if a file cannot be inspected.
    """
    for path in paths:
        # Only descriptions are limited; shards may have any size.
        most = None if SHARD.search(path.name) else reading.DESCRIPTION
        try:
            if path.exists() and not path.is_dir():
                reading.check(path, most=most)
        except ValueError as error:
            raise Untrusted(str(error)) from error


def check_features(folder: Path) -> None:
    """Rejects a set with features of classes that are not TFDS's own.

    Args:
      folder: of a version of a prepared set, with its features.json.

    Raises:
      Untrusted: naming the file and the class.
      ValueError: if a file cannot be parsed.
      OSError: if a file cannot be read.
    """
    known = known_features()
    features, info = folder / "features.json", folder / "dataset_info.json"
    found = [(features, name) for name in classes_in(reading.read_json(features))]
    # Only below "features": elsewhere in this file a "type" is that of a column.
    inside = dict(reading.read_json(info)).get("features")
    found += [(info, name) for name in classes_in(inside)]
    for path, name in found:
        # An allowlist: TFDS would import whatever it does not know.
        if name not in known:
            raise Untrusted(
                f"{path}: expected features of TFDS's own classes, found {name!r:.80}."
            )


def base_of(name: str) -> str:
    """Returns a set's name without configuration and version."""
    return re.split("[/:]", name)[0]


def vet(name: str, data_dir: str | os.PathLike | None) -> None:
    """Vets the files of the set that TFDS would open, if it finds one.

    Args:
      name: of the set in TFDS.
      data_dir: where TFDS keeps its sets; None for its default.

    Raises:
      Untrusted: if a file should not be opened.
      ValueError: if a file cannot be parsed.
      OSError: if a file cannot be read.
    """
    from tensorflow_datasets.core.read_only_builder import _find_builder_dir
    from tensorflow_datasets.core.utils import error_utils
    from tensorflow_datasets.core.utils.file_utils import list_data_dirs

    # Before the search, which opens this file by itself.
    for root in list_data_dirs(given_data_dir=data_dir):
        check_files([Path(root) / base_of(name) / ".config" / "metadata.json"])
    # TFDS's own search: another might vet a folder that TFDS does not open.
    with error_utils.record_error_context():  # it reports into one
        found = _find_builder_dir(name, data_dir=data_dir)
    if found is not None:
        check_files(Path(found).iterdir())
        check_features(Path(found))
