"""Reads image-classification sets prepared by TensorFlow Datasets, without TensorFlow.

Only the prepared files are opened, by TFDS's own reader: neither TensorFlow nor the
code that made the set is needed, and private sets work as well as public ones.
"""

import difflib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.pictures import to_uint8
from fedjax_sl.data.vetting import Untrusted, base_of, check_files, vet
from fedjax_sl.extras import lacking


if TYPE_CHECKING:
    from PIL import Image


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


def decode(
    builder: Any, split: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole split, in the order of its ids if it has them.

    Images with one declared channel stay grey, all others become RGB.

    Args:
      builder: as from `open_prepared`.
      split: one of its splits.
      image_size: pixels a side, or None to keep the size.

    Returns:
      Images `[n, H, W, Ch]` uint8 and labels `[n]` int32.

    Raises:
      DataError: if the images differ in size and no size is given, an example cannot be
        read or has no label, or there is none.
    """
    grey = builder.info.features["image"].shape[-1] in (1, 2)
    count = builder.info.splits[split].num_examples
    try:
        # First: the reader of a shard would wait for a pipe.
        check_files(map(Path, builder.info.splits[split].filepaths))
    except Untrusted as error:
        raise DataError(f"{builder.name} is not opened: {error}") from error
    if not count:
        raise DataError(f"split={split!r} of {builder.name} has no examples.")
    labels = np.empty(count, np.int32)
    images, ids = None, []
    for row, (picture, label, id) in enumerate(_examples(builder, split)):
        image = to_uint8(picture, "L" if grey else "RGB", image_size)
        # Allocated once: stacking a list of all images would take twice the memory.
        if images is None:
            images = np.empty((count, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise DataError(
                f"the images of {builder.name} differ in size ({images.shape[1:]}, "
                f"{image.shape}, ...): give an image_size to resize them to."
            )
        images[row], labels[row] = image, label
        ids.append(id)
    assert images is not None
    # TFDS gives -1 to an example without a label.
    if missing := np.count_nonzero(labels < 0):
        raise DataError(
            f"split={split!r} of {builder.name}: expected a label for every example, "
            f"{missing} of {count} have none."
        )
    if None in ids:
        return images, labels
    # TFDS shuffles what it prepares; the ids have the published order.
    order = np.argsort(np.array(ids), kind="stable")
    return images[order], labels[order]


def _examples(builder: Any, split: str) -> Iterator[tuple["Image.Image", int, Any]]:
    """Yields picture, label and id (or None) of each example, as prepared.

    Raises:
      DataError: if one cannot be read.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    # Decoded here, not by TFDS: it uses OpenCV or Pillow, whichever is installed, and
    # the two do not agree on every JPEG.
    encoded = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split, decoders=encoded)
    for index in range(len(records)):
        # Readers of records and of images each have errors of their own.
        try:
            record = records[index]
            picture = Image.open(io.BytesIO(record["image"]))
            picture.load()
        except Exception as error:
            raise DataError(
                f"example {index} of split={split!r} of {builder.name} cannot be read: "
                f"what is in {builder.data_path} is damaged, or files are missing."
            ) from error
        yield picture, record["label"], record.get("id")
