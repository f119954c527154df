"""Loads whole data sets as uint8 arrays: the embedded digits, and TFDS sets by name."""

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from fedjax_sl.checks import check_integer, check_types
from fedjax_sl.config_base import pytree
from fedjax_sl.data.cache import cache_folder, cached
from fedjax_sl.data.checks import check_examples
from fedjax_sl.data.tfds import (
    DataError,
    decode,
    open_prepared,
    pick_split,
    to_uint8,
)


@pytree
@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with one label each; the arrays are leaves, the names are static.

    Attributes:
      image: `[n, H, W, Ch]` uint8; or float32, which must be normalised already.
      label: `[n]` integers in 0..C-1, int32 once on a device.
      name: of the data set.
      class_names: C names.
    """

    image: Any
    label: Any
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})

    def __post_init__(self):
        """Checks shapes and dtypes, and labels that are not traced."""
        check_types(self)
        check_examples(self.image, self.label, self.num_classes)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def first(self, count: int | None, name: str = "count") -> "Dataset":
        """Returns the first `count` examples.

        Args:
          count: from 1 to n; None for all.
          name: of the number, in an error message.

        Returns:
          The subset.

        Raises:
          ValueError: if there are fewer examples.
        """
        if count is None:
            return self
        check_integer(name, count, 1, len(self.label))
        return replace(self, image=self.image[:count], label=self.label[:count])

    def divided(self, held_out: int) -> tuple["Dataset", "Dataset"]:
        """Sets the last `held_out` examples apart.

        Args:
          held_out: from 1 to n - 1.

        Returns:
          The other examples, and these.

        Raises:
          ValueError: if there are no others.
        """
        check_integer("held_out", held_out, 1, len(self.label) - 1)
        apart = replace(
            self, image=self.image[-held_out:], label=self.label[-held_out:]
        )
        return self.first(len(self.label) - held_out), apart


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
      name: "digits", scikit-learn's embedded 8x8 grey digits; or an image
        classification set of TensorFlow Datasets that has been prepared, such as
        "cifar10" or "imagenet_resized/32x32".
      split: "train", "test" or another split of the set; where "test" is missing it
        stands for "validation".
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
            return _digits(split, image_size)
        return _prepared(
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


def _prepared(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None,
    image_size: int | None,
    cache_dir: str | os.PathLike | None,
) -> Dataset:
    """Loads a split of a TFDS set, through the cache."""
    builder = open_prepared(name, data_dir)
    # First: the cache is named after the split that is read.
    split = pick_split(builder, split)
    image, label = cached(
        cache_folder(builder, split, image_size, cache_dir),
        lambda: decode(builder, split, image_size),
    )
    names = tuple(builder.info.features["label"].names)
    return Dataset(image=image, label=label, name=name, class_names=names)


def _digits(split: str, image_size: int | None) -> Dataset:
    """Loads the digits; every fifth example of each digit is in the test split."""
    from sklearn.datasets import load_digits  # slow, and not needed for other sets

    if split not in ("train", "test"):
        raise DataError(f"split={split!r}: digits has 'train' and 'test'.")
    digits: Any = load_digits()
    # By rank within each digit: needs no seed, and keeps every class's share.
    for_test = np.zeros(len(digits.target), bool)
    for digit in range(10):
        for_test[np.flatnonzero(digits.target == digit)[4::5]] = True
    chosen = for_test if split == "test" else ~for_test
    # scikit-learn's levels are 0 to 16.
    grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    return Dataset(
        image=np.stack(
            [to_uint8(Image.fromarray(image), "L", image_size) for image in grey]
        ),
        label=digits.target[chosen].astype(np.int32),
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
    )
