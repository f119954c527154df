"""Images of MNIST's kind in four IDX files: `idx:DIR`."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from fedjax_sl import reading
from fedjax_sl.data.arrays import class_names_of
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.own_split import check_split


PREFIX = {"train": "train", "test": "t10k"}

UNSIGNED_BYTE = 0x08
"""Code of the elements' type, the third byte of a file."""


def idx(place: str, split: str, image_size: int | None) -> Dataset:
    """Loads a split from files such as train-images-idx3-ubyte or the same with .gz.

    The format is that of http://yann.lecun.com/exdb/mnist: two zero bytes, type,
    number of axes, each length in 4 bytes, most significant first, then the elements.

    Args:
      place: folder of the files, such as /usr/share/datasets/fashion-mnist.
      split: "train" or "test".
      image_size: pixels a side to resize to, or None.

    Returns:
      The split; classes are those of the training labels.

    Raises:
      ValueError: if a file is missing or damaged, or if the arrays do not form a data
        set.
      OSError: if a file cannot be opened.
    """
    check_split(split)
    folder = Path(place)
    # For the test split, too: training labels number the classes.
    label = _read(folder, "train-labels-idx1-ubyte")
    names = class_names_of(label)
    if split == "test":
        label = _read(folder, f"{PREFIX[split]}-labels-idx1-ubyte")
    image = _read(folder, f"{PREFIX[split]}-images-idx3-ubyte")
    return Dataset.from_arrays(image, label, class_names=names, image_size=image_size)


def _read(folder: Path, name: str) -> np.ndarray:
    """Reads the array of a file, which may be compressed."""
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        raise DataError(f"expected {name} or {name}.gz in {folder}, found neither.")
    reading.check(path)
    try:
        with (gzip.open if path == packed else open)(path, "rb") as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: expected gzip.") from error
    return _parsed(path, content)


def _parsed(path: Path, content: bytes) -> np.ndarray:
    """Parses a file of unsigned bytes with as many axes as its name says."""
    axes = 3 if "idx3" in path.name else 1
    if content[:4] != bytes((0, 0, UNSIGNED_BYTE, axes)):
        raise DataError(
            f"{path} begins with {content[:4].hex() or 'nothing'}: expected "
            f"{bytes((0, 0, UNSIGNED_BYTE, axes)).hex()}, {axes} axes of bytes."
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{path} has {len(content)} bytes: expected {start} or more.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    # `math.prod`, not NumPy's: malformed lengths may multiply beyond 2^64.
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} has {len(content)} bytes: expected {start} and as many as {shape} "
            "says; it is damaged."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
