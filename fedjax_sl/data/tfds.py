"""Opens image-classification sets prepared by TensorFlow Datasets, without TensorFlow.

Only the prepared files are opened, by TFDS's own reader: neither TensorFlow nor the
code that made the set is needed, and private sets work as well as public ones.
"""

import difflib
import os
from pathlib import Path
from typing import Any

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.vetting import Untrusted, base_of, vet
from fedjax_sl.extras import lacking


_NEED = (
    "data set {!r}: expected 'digits' or data of your own as npz:FILE, folder:DIR, "
    "idx:DIR or hf:DIR; sets of TensorFlow Datasets need"
)
"""What is said of any other name without TensorFlow Datasets."""


def open_prepared(name: str, data_dir: str | os.PathLike | None) -> Any:
    """Opens a prepared image-classification set.

    Args:
      name: its name in TFDS, optionally with configuration and version.
      data_dir: where TFDS keeps its sets; None for its default.

    Returns:
      A TFDS builder.

    Raises:
      DataError: if the set is unknown, not prepared in a format that can be read
        without TensorFlow, or not an image-classification set.
    """
    if sentence := lacking("tensorflow_datasets", _NEED.format(name)):
        raise DataError(sentence)
    # Half a second, not needed for the digits.
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        # First: TFDS imports the classes that a set's files name.
        vet(name, data_dir)
        builder = builder_from_files(name, data_dir=data_dir)
    except Untrusted as error:
        raise DataError(f"data set {name!r} is not opened: {error}") from error
    except Exception as error:  # TFDS and protobuf have many of their own
        raise DataError(_why_not(name, data_dir, error)) from error
    info: Any = builder.info
    kinds = {key: type(kind).__name__ for key, kind in info.features.items()}
    if kinds.get("image") != "Image" or kinds.get("label") != "ClassLabel":
        raise DataError(
            f"data set {name!r} is no image-classification set: expected an Image "
            f"'image' and a ClassLabel 'label', it has {kinds}."
        )
    if not info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        raise DataError(
            f"data set {name!r} is prepared in {builder.data_path} as "
            f"{info.file_format.value}, which only TensorFlow reads; prepare it in "
            f"another place with: {_command(name, 'ANOTHER_PLACE')}"
        )
    return builder


def _why_not(name: str, data_dir: str | os.PathLike | None, error: Exception) -> str:
    """Explains in one sentence why TFDS found no prepared set of that name."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.constants import DATA_DIR

    base = base_of(name)
    known = tfds.list_builders(with_community_datasets=False)
    folder = Path(data_dir or DATA_DIR)
    if base not in known and base and (folder / base).is_dir():
        return (
            f"data set {name!r} in {folder / base} cannot be opened: expected that "
            "version of it, with its dataset_info.json and features.json in order."
        )
    if base not in known:
        close = difflib.get_close_matches(base.lower(), ["digits", *known])
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        return (
            f"data set {name!r} is unknown: expected 'digits', data of your own as "
            "npz:FILE, folder:DIR, idx:DIR or hf:DIR, a set prepared in "
            f"{folder}, or the name of an image classification set of TensorFlow "
            f"Datasets{hint}"
        )
    if not isinstance(error, tfds.core.DatasetNotFoundError):
        reason = [*str(error).splitlines(), type(error).__name__][0]
        return f"data set {name!r} cannot be opened: {reason}"
    return (
        f"data set {name!r} is not prepared in {folder}; prepare it once with: "
        f"{_command(name, data_dir)}"
    )


def _command(name: str, data_dir: str | os.PathLike | None) -> str:
    """Returns the shell command that prepares a set in a readable format."""
    where = f", data_dir={str(data_dir)!r}" if data_dir else ""
    return (
        'pip install tensorflow-cpu && python -c "import tensorflow_datasets as '
        f"tfds; tfds.builder({name!r}{where})."
        "download_and_prepare(file_format='array_record')\""
    )


def pick_split(builder: Any, split: str) -> str:
    """Returns the split, or "validation" if the set has no "test".

    Args:
      builder: as from `open_prepared`.
      split: a name.

    Returns:
      A split of the set.

    Raises:
      DataError: if the set has no such split.
    """
    splits = builder.info.splits
    # Never the reverse: a choice of settings must not see the test split.
    if split == "test" and "test" not in splits and "validation" in splits:
        return "validation"
    if split not in splits:
        names = ", ".join(map(repr, splits))
        raise DataError(f"split={split!r}: {builder.name} has {names}.")
    return split
