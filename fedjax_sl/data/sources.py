"""Whole data sets as uint8 arrays: the embedded digits, and any TFDS set by name."""

import difflib
import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image


class DataError(ValueError):
    """A data set that cannot be had as asked, and what to do about it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled images.

    Attributes:
      image: `[n, H, W, Ch]` uint8.
      label: `[n]` int32.
      name: what it was loaded by.
      class_names: C names.
    """

    image: Any
    label: Any
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)


def load(
    name: str,
    *,
    split: str,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """Loads a split of a data set.

    Args:
      name: "digits" (scikit-learn's, embedded, 8x8 grey), or the name of an image
        classification set of TensorFlow Datasets, as "cifar10" or
        "imagenet_resized/32x32", that has been prepared.
      split: "train" or "test"; a set without a test split gives "validation" for it.
      data_dir: where TFDS keeps its sets; as TFDS decides if not given.
      image_size: pixels a side to resize to; None keeps the size, which must then be
        the same for all images.
      cache_dir: where decoded arrays are kept; a user's cache folder if not given.

    Returns:
      The data set, with NumPy arrays.

    Raises:
      DataError: if there is no such data set or split, or it is not prepared.
    """
    if name == "digits":
        return _digits(split, image_size)
    builder = _builder(name, data_dir)
    split = _split(builder, name, split)
    class_names = tuple(builder.info.features["label"].names)
    cache = _cache_path(builder, split, image_size, cache_dir)
    arrays = _read_cache(cache)
    if arrays is None:
        arrays = _decode(builder, name, split, image_size)
        _write_cache(cache, *arrays)
    return Dataset(
        image=arrays[0], label=arrays[1], name=name, class_names=class_names
    )


def _digits(split: str, image_size: int | None) -> Dataset:
    """Every fifth digit is for testing: each class keeps its share to within a few."""
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise DataError(f"split={split!r}: digits has 'train' and 'test'.")
    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    chosen = (np.arange(len(grey)) % 5 == 4) == (split == "test")
    images = [_as_uint8(one, image_size) for one in grey[chosen]]
    return Dataset(
        image=np.stack(images),
        label=digits.target[chosen].astype(np.int32),
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _as_uint8(image: np.ndarray, image_size: int | None) -> np.ndarray:
    """`[H, W, Ch]` uint8 with one or three channels, resized if asked."""
    image = np.asarray(image)
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        image = image[:, :, : image.shape[2] - 1]
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image_size is not None and image.shape[:2] != (image_size, image_size):
        size = (image_size, image_size)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return image if image.ndim == 3 else image[:, :, None]


def _builder(name: str, data_dir) -> Any:
    """The TFDS builder of a prepared image classification set."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders()
    if name.split("/")[0].split(":")[0] not in known:
        close = difflib.get_close_matches(name, ["digits", *known], n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise DataError(
            f"data set {name!r} is not known: expected 'digits' or a name from "
            f"TensorFlow Datasets{hint}"
        )
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        raise DataError(f"data set {name!r} cannot be opened: {error}") from error
    features = builder.info.features
    if features is None or not {"image", "label"} <= set(features):
        raise DataError(f"data set {name!r} is not a set of images with one label each.")
    if not builder.info.splits:
        where = f", data_dir={str(data_dir)!r}" if data_dir else ""
        raise DataError(
            f"data set {name!r} is not prepared in {builder.data_dir}; prepare it once "
            'with: pip install "fedjax-sl[prepare]" && python -c "import '
            f"tensorflow_datasets as tfds; tfds.builder('{name}'{where})."
            "download_and_prepare(file_format='array_record')\""
        )
    return builder


def _split(builder: Any, name: str, split: str) -> str:
    splits = builder.info.splits
    if split == "test" and "test" not in splits and "validation" in splits:
        return "validation"
    if split not in splits:
        raise DataError(f"split={split!r}: {name} has {', '.join(sorted(splits))}.")
    return split


def _decode(builder: Any, name: str, split: str, image_size: int | None):
    """Images and labels in the order of their ids, where they have any."""
    source = builder.as_data_source(split=split)
    records = [source[place] for place in range(len(source))]
    if records and "id" in records[0]:
        records.sort(key=lambda record: record["id"])
    images = [_as_uint8(record["image"], image_size) for record in records]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(
            f"the images of {name!r} have {len(shapes)} different shapes, such as "
            f"{sorted(shapes)[:2]}: give one size to resize them to."
        )
    return np.stack(images), np.array([r["label"] for r in records], np.int32)


def _cache_path(builder: Any, split: str, image_size: int | None, cache_dir) -> Path:
    """A name that changes with whatever changes the arrays."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_dir) if cache_dir else Path(base) / "fedjax_sl"
    identity = f"{builder.data_dir} {split} {image_size}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return folder / f"{builder.name}-{builder.version}-{split}-{digest}.npz"


def _read_cache(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays, or None if there are none or they are torn."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["image"], arrays["label"]
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _write_cache(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    """Keeps the arrays where that is allowed; never leaves half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
            np.savez(temporary, image=image, label=label)
        os.replace(temporary.name, path)
    except OSError:
        return
