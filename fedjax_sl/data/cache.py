"""Decoded data sets kept on disk, so that each is decoded once."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sl import reading


DECODING = 1
"""To be raised when the same files would decode to other arrays."""

FILES = "image.npy", "label.npy"

Arrays = tuple[np.ndarray, np.ndarray]
"""Images `[n, H, W, Ch]` uint8 and labels `[n]` int32."""


def cache_folder(
    builder: Any,
    split: str,
    image_size: int | None,
    cache_dir: str | os.PathLike | None,
) -> Path:
    """A folder of its own for each result of decoding.

    Args:
      builder: of a prepared TFDS set.
      split: one of its splits.
      image_size: pixels a side, or None.
      cache_dir: the parent; None for the user's cache directory.

    Returns:
      A path that changes with the name, version, place or date of the prepared set, the
      split and the size.
    """
    if cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = os.path.join(base, "fedjax_sl")
    source = builder.data_path.resolve()
    prepared_at = (source / "dataset_info.json").stat().mtime
    identity = repr((DECODING, str(source), prepared_at, image_size))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    name = builder.info.full_name.replace("/", "-")
    return Path(cache_dir).expanduser() / f"{name}-{split}-{digest}"


def cached(folder: Path, make: Callable[[], Arrays]) -> Arrays:
    """What is kept in a folder, or else what `make` gives, which is then kept there.

    Args:
      folder: as from `cache_folder`.
      make: decodes the set.

    Returns:
      Images and labels; mapped from the files, read-only, if they were kept.
    """
    arrays = _read(folder)
    if arrays is not None:
        return arrays
    arrays = make()
    try:
        _write(folder, arrays)
    except OSError as error:
        warnings.warn(
            f"the decoded data set could not be kept ({error}), so that it will be "
            "decoded again next time.",
            stacklevel=3,
        )
    return arrays


def _read(folder: Path) -> Arrays | None:
    """The arrays, or None if there are none or the files are torn."""
    paths = [folder / file for file in FILES]
    try:
        for path in paths:
            reading.check(path)
        image, label = (
            np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            for path in paths
        )
    except (OSError, ValueError, EOFError):
        return None
    sound = image.ndim == 4 and label.shape == image.shape[:1]
    sound = sound and image.dtype == np.uint8 and label.dtype == np.int32
    return (image, label) if sound else None


def _write(folder: Path, arrays: Arrays) -> None:
    """Puts each file in place whole or not at all, whoever else is writing it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for file, array in zip(FILES, arrays, strict=True):
            np.save(os.path.join(scratch, file), array, allow_pickle=False)
            os.replace(os.path.join(scratch, file), folder / file)
