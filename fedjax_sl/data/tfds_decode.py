"""Decodes the records of a set that TensorFlow Datasets prepared, several at a time."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.pictures import to_uint8
from fedjax_sl.data.vetting import Untrusted, check_files


if TYPE_CHECKING:
    from PIL import Image


AT_ONCE = 256
"""Records that are read and decoded together; all of a set may not fit in memory."""


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
    convert = partial(to_uint8, mode="L" if grey else "RGB", image_size=image_size)
    for row, (image, label, id) in enumerate(_examples(builder, split, convert)):
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


def _examples(
    builder: Any, split: str, convert: Callable[["Image.Image"], np.ndarray]
) -> Iterator[tuple[np.ndarray, int, Any]]:
    """Yields image, label and id (or None) of each example, as prepared.

    Args:
      builder: as from `open_prepared`.
      split: one of its splits.
      convert: makes an array of a picture.

    Raises:
      DataError: if one cannot be read.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    # Decoded here, not by TFDS: it uses OpenCV or Pillow, whichever is installed, and
    # the two do not agree on every JPEG.
    encoded = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split, decoders=encoded)

    @contextmanager
    def readable(index):
        # Readers of records and of images each have errors of their own.
        try:
            yield
        except Exception as error:
            raise DataError(
                f"example {index} of split={split!r} of {builder.name} cannot be read: "
                f"what is in {builder.data_path} is damaged, or files are missing."
            ) from error

    def read(index):
        with readable(index):
            return index, records[index]

    def decoded(numbered):
        index, record = numbered
        with readable(index):
            picture = Image.open(io.BytesIO(record["image"]))
            picture.load()
        return convert(picture), record["label"], record.get("id")

    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(records), AT_ONCE):
            part = range(first, min(first + AT_ONCE, len(records)))
            yield from pool.map(decoded, map(read, part))
