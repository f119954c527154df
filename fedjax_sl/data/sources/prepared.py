"""Sets that TensorFlow Datasets has prepared, through the cache of decoded arrays."""

import os

from fedjax_sl.data.cache import cache_folder, cached
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.tfds import open_prepared, pick_split
from fedjax_sl.data.tfds_decode import decode


def prepared(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None,
    image_size: int | None,
    cache_dir: str | os.PathLike | None,
) -> Dataset:
    """Loads a split of a TFDS set.

    Raises:
      DataError: if there is no such set or split, or it cannot be read.
    """
    builder = open_prepared(name, data_dir)
    # First: the cache is named after the split that is read.
    split = pick_split(builder, split)
    image, label = cached(
        cache_folder(builder, split, image_size, cache_dir),
        lambda: decode(builder, split, image_size),
    )
    names = tuple(builder.info.features["label"].names)
    return Dataset(image=image, label=label, name=name, class_names=names)
