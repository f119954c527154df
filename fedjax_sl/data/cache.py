"""Caches decoded data sets on disk, so that each is decoded once."""

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
"""Version of the decoding; increase it if the same files decode to other arrays."""

FILES = "image.npy", "label.npy"

Arrays = tuple[np.ndarray, np.ndarray]
"""Images `[n, H, W, Ch]` uint8 and labels `[n]` int32."""


def cache_folder(
    builder: Any,
    split: str,
    image_size: int | None,
    cache_dir: str | os.PathLike | None,
) -> Path:
    """Returns a separate folder for each result of decoding.

    Args:
      builder: of a prepared TFDS set.
      split: one of its splits.
      image_size: pixels a side, or None.
      cache_dir: the parent; None for the user's cache directory.

    Returns:
      A path that changes with the name, version, location or date of the prepared set,
      the split and the size.
    """
    if cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = os.path.join(base, "fedjax_sl")
    source = builder.data_path.resolve()
    # A set that is prepared anew keeps its name, version and place.
    prepared_at = (source / "dataset_info.json").stat().mtime
    # The path, too: two data folders may hold sets of one name and version.
    identity = repr((DECODING, str(source), prepared_at, image_size))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    name = builder.info.full_name.replace("/", "-")
    return Path(cache_dir).expanduser() / f"{name}-{split}-{digest}"


def cached(folder: Path, make: Callable[[], Arrays]) -> Arrays:
    """Loads the arrays from a folder, or makes and stores them there.

    Args:
      folder: as from `cache_folder`.
      make: decodes the set.

    Returns:
      Images and labels; memory-mapped and read-only if they were cached.
    """
    arrays = _read(folder)
    if arrays is not None:
        return arrays
    arrays = make()
    try:
        _write(folder, arrays)
    except OSError as error:
        # The arrays are good all the same: a full or read-only disk ends no run.
        warnings.warn(
            f"the decoded data set could not be kept ({error}), so that it will be "
            "decoded again next time.",
            stacklevel=3,
        )
    return arrays


def _read(folder: Path) -> Arrays | None:
    """Reads the arrays; None if there are none or the files are damaged."""
    paths = [folder / file for file in FILES]
    try:
        for path in paths:
            reading.check(path)  # opening a pipe would block
        # Mapped: a run on a few examples reads few pages. No pickle: it could run code.
        image, label = (
            np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            for path in paths
        )
    except (OSError, ValueError, EOFError):
        return None
    # The two files are written one by one, and may not be of one set.
    valid = image.ndim == 4 and label.shape == image.shape[:1]
    valid = valid and image.dtype == np.uint8 and label.dtype == np.int32
    return (image, label) if valid else None


def _write(folder: Path, arrays: Arrays) -> None:
    """Writes each file atomically, so that several processes may write it at once."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside their target: a rename does not cross file systems.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # Files of two processes may mix: both decode the same set to the same arrays.
        for file, array in zip(FILES, arrays, strict=True):
            np.save(os.path.join(scratch, file), array, allow_pickle=False)
            os.replace(os.path.join(scratch, file), folder / file)
