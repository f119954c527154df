"""The files of a prepared set are looked at before TFDS opens them.

They say which classes its features are of, and TFDS imports the module of a class that
it does not know: a set from a stranger could run any code.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fedjax_sl import reading


CLASS_NAMES = ("pythonClassName", "python_class_name", "type")
"""Keys of a class's name: as TFDS writes it, as it also reads it, and as it used to."""

SHARD = re.compile(r"-\d+-of-\d+$")


class Untrusted(ValueError):
    """A file of a prepared set that is not opened; the message says why."""


def known_features() -> set[str]:
    """Names of the feature classes that are TFDS's own, in full."""
    import tensorflow_datasets as tfds

    base, names = tfds.features.FeatureConnector, set()
    for kind in vars(tfds.features).values():
        if isinstance(kind, type) and issubclass(kind, base):
            names |= {f"{kind.__module__}.{kind.__name__}"}
            names |= set(vars(kind).get("ALIASES", ()))  # what they were called before
    return names


def classes_in(values: Any) -> Iterator[str]:
    """Names of classes in parsed JSON, and in its strings that are JSON in turn."""
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
        try:
            inner = json.loads(values)
        except ValueError:
            return
        yield from classes_in(inner)


def check_files(paths: Iterable[Path]) -> None:
    """Refuses what is no regular file, but for folders, or a description too long.

    Args:
      paths: of shards and of descriptions; those that are not there pass.

    Raises:
      Untrusted: naming the file.
      OSError: if one cannot be looked at.
    """
    for path in paths:
        most = None if SHARD.search(path.name) else reading.DESCRIPTION
        try:
            if path.exists() and not path.is_dir():
                reading.check(path, most=most)
        except ValueError as error:
            raise Untrusted(str(error)) from error


def check_features(folder: Path) -> None:
    """Refuses a set that has features of other classes than TFDS's own.

    Args:
      folder: of a version of a prepared set, with its features.json.

    Raises:
      Untrusted: if it has, naming the file and the class.
      ValueError: if a file that says so cannot be understood.
      OSError: if one cannot be read.
    """
    known = known_features()
    features, info = folder / "features.json", folder / "dataset_info.json"
    found = [(features, name) for name in classes_in(reading.read_json(features))]
    # Elsewhere in this one a type is that of a column.
    inside = dict(reading.read_json(info)).get("features")
    found += [(info, name) for name in classes_in(inside)]
    for path, name in found:
        if name not in known:
            raise Untrusted(
                f"{path}: expected features of TFDS's own classes, found {name!r:.80}."
            )


def base_of(name: str) -> str:
    """A set's name without configuration and version."""
    return re.split("[/:]", name)[0]


def vet(name: str, data_dir: str | os.PathLike | None) -> None:
    """Looks at the files of the set that TFDS would open, if it finds one.

    Args:
      name: as TFDS takes it.
      data_dir: where TFDS keeps its sets; None for its default.

    Raises:
      Untrusted: if one of them should not be opened.
      ValueError: if one cannot be understood.
      OSError: if one cannot be read.
    """
    from tensorflow_datasets.core.read_only_builder import _find_builder_dir
    from tensorflow_datasets.core.utils import error_utils
    from tensorflow_datasets.core.utils.file_utils import list_data_dirs

    for root in list_data_dirs(given_data_dir=data_dir):
        check_files([Path(root) / base_of(name) / ".config" / "metadata.json"])
    with error_utils.record_error_context():  # it reports into one
        found = _find_builder_dir(name, data_dir=data_dir)
    if found is not None:
        check_files(Path(found).iterdir())
        check_features(Path(found))
