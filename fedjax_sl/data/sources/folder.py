"""Folders of pictures, one sub-folder for each class: `folder:DIR`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fedjax_sl import reading
from fedjax_sl.data.arrays import check_every_class
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.own_split import check_split, no_test_split
from fedjax_sl.data.pictures import in_own_colours, stacked


SUFFIXES = (".png", ".jpg", ".jpeg")


def folder(place: str, split: str, image_size: int | None) -> Dataset:
    """Decodes DIR/SPLIT/CLASS/*.png or .jpg, in the order of classes and file names.

    Pictures without colour stay grey unless others of the split have colours.

    Args:
      place: DIR.
      split: "train" or "test".
      image_size: pixels a side to resize to, or None if all have one size.

    Returns:
      The split; classes are the folders below DIR/train, in alphabetical order.

    Raises:
      ValueError: if a folder is missing or empty, a class has no training picture, a
        file is no picture or cannot be decoded, or sizes differ and none is given.
      OSError: if a folder cannot be read.
    """
    check_split(split)
    base = Path(place)
    if not (base / "train").is_dir():
        raise DataError(f"expected {base / 'train'} with a folder for each class.")
    if not (base / split).is_dir():
        raise no_test_split(f"there is no {base / split}")
    # Of training for both splits: a test split may lack a class, and would renumber.
    names = tuple(_classes(base / "train"))
    files = [
        (path, label)
        for name, label in _labels(base / split, names)
        for path in _pictures(base / split / name)
    ]
    if not files:
        raise DataError(f"{base / split} has no picture: expected CLASS/*.png or .jpg.")
    label = np.array([label for _, label in files], np.int32)
    if split == "train":
        check_every_class(label, names)
    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda file: _decoded(file[0], image_size), files))
    return Dataset.from_arrays(stacked(images), label, class_names=names)


def _classes(split: Path) -> list[str]:
    """Returns the folders in a split, without hidden ones."""
    seen = [path for path in split.iterdir() if not path.name.startswith(".")]
    for path in seen:
        if not path.is_dir():
            raise DataError(f"{path}: expected only folders there, one for each class.")
    # `iterdir` has the order of the file system, which differs between machines.
    return sorted(path.name for path in seen)


def _labels(split: Path, names: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns the classes of a split with their labels.

    Raises:
      DataError: if one of them is not among those of the training split.
    """
    classes = _classes(split)
    for name in classes:
        if name not in names:
            raise DataError(
                f"{split / name}: expected a class of the training split, one of "
                f"{', '.join(names)}."
            )
    return [(name, names.index(name)) for name in classes]


def _pictures(of_class: Path) -> list[Path]:
    """Returns the picture files of a class, by name.

    Raises:
      DataError: if there is anything else, which would be left out silently.
    """
    seen = [path for path in of_class.iterdir() if not path.name.startswith(".")]
    for path in seen:
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path}: expected {', '.join(SUFFIXES)}, nothing else.")
    return sorted(seen)


def _decoded(path: Path, image_size: int | None) -> np.ndarray:
    """Decodes a file.

    Raises:
      DataError: if it is no picture, or damaged.
    """
    # Late: it takes a quarter of a second.
    from PIL import Image

    reading.check(path)  # opening a pipe would block
    try:
        with Image.open(path) as picture:
            return in_own_colours(picture, image_size)
    # Each of Pillow's readers has errors of its own.
    except Exception as error:
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise DataError(f"{path} cannot be decoded: {reason}.") from error
