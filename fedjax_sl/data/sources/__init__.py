"""Where data sets come from, one file each, and the registry of their schemes."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.sources.digits import digits
from fedjax_sl.data.sources.folder import folder
from fedjax_sl.data.sources.idx import idx
from fedjax_sl.data.sources.npz import npz
from fedjax_sl.data.sources.prepared import prepared
from fedjax_sl.data.sources.saved import saved
from fedjax_sl.entry_points import installed
from fedjax_sl.errors import InputError


Source = Callable[[str, str, int | None], Dataset]
"""`source(place, split, image_size)` loads a split: "train" or "test"."""

SOURCES: dict[str, Source] = {"npz": npz, "folder": folder, "idx": idx, "hf": saved}
"""Every source by the scheme before the colon of a name; a program may add its own."""

ENTRY_POINTS = "fedjax_sl.sources"


@cache
def _installed() -> dict[str, Source]:
    """Loads the sources of other installed packages, by the names of entry points.

    Raises:
      ValueError: if one cannot be loaded, or has the name of another.
    """
    return installed(ENTRY_POINTS, "source", SOURCES)


def sources() -> dict[str, Source]:
    """Returns every source by scheme, those of other packages last."""
    return SOURCES | _installed()


def place_of(name: str) -> tuple[str, str] | None:
    """Splits the name of a user's own data into scheme and place.

    Args:
      name: of any data set.

    Returns:
      Such as ("npz", "mine.npz"); None for the digits and sets of TFDS.
    """
    scheme, colon, place = name.partition(":")
    # A name of TFDS has a colon, too, if a version follows.
    known = colon and scheme in sources()
    return (scheme, os.path.expanduser(place)) if known else None


def load(
    name: str,
    *,
    split: str,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """Loads one split of a data set; the decoded arrays of TFDS sets are cached.

    The order of the examples is the same in every call: by `id` if a set has one, else
    as it was prepared.

    Args:
      name: "digits", scikit-learn's embedded 8x8 grey digits; data of your own as
        "npz:FILE", "folder:DIR", "idx:DIR" or "hf:DIR"; or an image classification set
        of TensorFlow Datasets that has been prepared, such as "cifar10" or
        "imagenet_resized/32x32".
      split: "train", "test" or, of TFDS, another split of the set; where "test" is
        missing it stands for "validation".
      data_dir: where TFDS keeps its sets; None for `$TFDS_DATA_DIR`, or else
        `~/tensorflow_datasets`.
      image_size: pixels a side, to which images are resized (bilinear); None keeps
        their size, which must then be the same for all.
      cache_dir: folder of decoded arrays; None for `$XDG_CACHE_HOME/fedjax_sl`, or else
        `~/.cache/fedjax_sl`.

    Returns:
      A Dataset of NumPy arrays; treat them as read-only.

    Raises:
      DataError: if there is no such set or split, it is not prepared or damaged, or its
        images have no common size, or do not fit in memory.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size={image_size}: expected None or at least 1 pixel.")
    try:
        if name == "digits":
            return digits(split, image_size)
        if own := place_of(name):
            return replace(_own(*own, split, image_size), name=name)
        return prepared(
            name,
            split,
            data_dir=data_dir,
            image_size=image_size,
            cache_dir=cache_dir,
        )
    except MemoryError as error:
        raise DataError(
            f"image_size={image_size}: the images of {name!r} do not fit in memory."
        ) from error


def _own(scheme: str, place: str, split: str, image_size: int | None) -> Dataset:
    """Loads a split of a user's own data; what is wrong with them names the place."""
    try:
        return sources()[scheme](place, split, image_size)
    except InputError as error:
        raise DataError(f"{scheme}:{place}: {error}") from error
    except OSError as error:
        # The text of an OSError names the path, which the sentence has already.
        reason = error.strerror or str(error)
        raise DataError(f"{scheme}:{place}: {reason}.") from error
