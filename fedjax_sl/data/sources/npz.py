"""Arrays in a NumPy archive: `npz:FILE`."""

from typing import Any

from fedjax_sl.archive import array_of, opened
from fedjax_sl.data.arrays import check_every_class, class_names_of
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.own_split import check_split, no_test_split


NEEDED = ("train_image", "train_label")
TEST = ("test_image", "test_label")
OPTIONAL = ("train_client", "class_names")
"""The keys of an archive: those of the training split, of the test split if it has one,
the natural owner of each training example, and the names of the classes."""


def npz(place: str, split: str, image_size: int | None) -> Dataset:
    """Loads a split of an archive, as `Dataset.from_arrays` takes its arrays.

    Args:
      place: path of a file that `numpy.savez` or `savez_compressed` wrote.
      split: "train" or "test".
      image_size: pixels a side to resize to, or None.

    Returns:
      The split.

    Raises:
      ValueError: if the file cannot be read, has other keys, or no such split; or if
        the arrays do not form a data set.
      OSError: if there is no such file.
    """
    check_split(split)
    with opened(place) as arrays:
        _check_keys(arrays.files)
        if split == "test" and TEST[0] not in arrays.files:
            raise no_test_split("it has no test_image and test_label")
        # Classes are those of the training labels, for both splits.
        label, names = array_of(arrays, "train_label"), _names(arrays)
        classes = class_names_of(label) if names is None else names
        client = "train_client" if "train_client" in arrays.files else None
        found = Dataset.from_arrays(
            array_of(arrays, f"{split}_image"),
            label if split == "train" else array_of(arrays, "test_label"),
            client=array_of(arrays, client) if client and split == "train" else None,
            class_names=classes,
            image_size=image_size,
        )
    if split == "train":
        check_every_class(found.label, found.class_names)
    return found


def _check_keys(found: list[str]) -> None:
    """Rejects an archive that lacks a key, or has one of another meaning."""
    known = {*NEEDED, *TEST, *OPTIONAL}
    half = len({*TEST} & {*found}) == 1
    # No other keys: a misspelt train_client would be ignored silently.
    if not {*NEEDED} <= {*found} <= known or half:
        raise DataError(
            f"it has the keys {', '.join(sorted(found)) or 'of nothing'}: expected "
            f"{', '.join(NEEDED)}, {' and '.join(TEST)} if it has a test split, and "
            f"{' or '.join(OPTIONAL)} if you like."
        )


def _names(arrays: Any) -> tuple[str, ...] | None:
    """Reads the names of the classes, if they are given."""
    if "class_names" not in arrays.files:
        return None
    names = array_of(arrays, "class_names")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"class_names of shape {names.shape} and dtype {names.dtype}: expected [C] "
            "texts."
        )
    return tuple(map(str, names))
