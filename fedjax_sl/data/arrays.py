"""Converts a user's arrays to those of a data set, and rejects what cannot be meant."""

from typing import Any

import numpy as np

from fedjax_sl.errors import InputError


def as_images(image: Any) -> np.ndarray:
    """Converts images to `[n, H, W, Ch]` uint8 or float32.

    Args:
      image: `[n, H, W, Ch]` or `[n, H, W]`, uint8 or floats.

    Returns:
      The images; not copied unless their dtype changes.

    Raises:
      ValueError: if they are of another rank or dtype, channels come first, or a pixel
        is NaN or infinite.
    """
    # NumPy's own ValueError would count as a mistake of this package, not of the input.
    try:
        image = np.asarray(image)
    except ValueError as error:
        raise InputError("image: expected an array, its rows of one shape.") from error
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4:
        raise InputError(
            f"image of shape {image.shape}: expected [n, H, W] or [n, H, W, Ch]."
        )
    # As PyTorch has them: an image of 1 or 3 rows, with this many channels, is none.
    if image.shape[1] in (1, 3) and image.shape[3] > 4:
        raise InputError(
            f"image of shape {image.shape}: expected [n, H, W, Ch], channels last."
        )
    # Not scaled here: the dtype tells programs that images are still to be normalised.
    if image.dtype == np.uint8:
        return image
    # Integers of other widths do not tell which value is white.
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"image of dtype {image.dtype}: expected uint8 or floats.")
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, refused below
        image = image.astype(np.float32, copy=False)
    # In a round a NaN would look like a client whose messages are corrupted, and be
    # rejected there, round after round.
    finite = np.isfinite(image).all(axis=(1, 2, 3))
    if not finite.all():
        raise InputError(
            f"image {finite.argmin()} has a pixel that is NaN or infinite: expected "
            "finite numbers."
        )
    return image


def as_clients(client: Any) -> np.ndarray:
    """Numbers the owners of examples from 0 on, in ascending order of their ids.

    Args:
      client: `[n]` integers or texts.

    Returns:
      `[n]` int32.

    Raises:
      ValueError: if the ids are of another rank or type.
    """
    client = np.asarray(client)
    if client.dtype == object and all(isinstance(own, str) for own in client.flat):
        client = client.astype(str)
    integers = np.issubdtype(client.dtype, np.integer)
    if client.ndim != 1 or not (integers or client.dtype.kind == "U"):
        raise InputError(
            f"client of shape {client.shape} and dtype {client.dtype}: expected [n] "
            "integers or texts."
        )
    # By id, not by appearance: shuffled rows give each owner the same number.
    return np.unique(client, return_inverse=True)[1].astype(np.int32)


def class_names_of(label: Any) -> tuple[str, ...]:
    """Names the classes of training labels by their numbers.

    Args:
      label: `[n]`; what is no integer names no class, and is for `check_examples`.

    Returns:
      "0" to C-1.

    Raises:
      ValueError: if a number between 0 and the largest one does not occur.
    """
    label = np.asarray(label)
    if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer):
        return ()
    found = np.unique(label)
    if found.size and found[0] < 0:
        raise InputError(f"label={found[0]}: expected 0 or more.")
    # `found` is sorted, so that the first mismatch is the smallest missing class.
    missing = np.flatnonzero(found != np.arange(found.size))
    if missing.size:
        raise InputError(
            f"label={missing[0]}: no training example has it, and some have "
            f"{found[-1]}; expected every class from 0 on."
        )
    return tuple(map(str, found))


def check_every_class(label: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Rejects training labels that lack a class.

    Args:
      label: `[n]`, in 0..C-1.
      class_names: C names.

    Raises:
      ValueError: naming the first class without an example.
    """
    count = np.bincount(label, minlength=len(class_names))
    if not count.all():
        absent = int(count.argmin())
        raise InputError(
            f"class {class_names[absent]!r} (label {absent}) has no training example: "
            f"expected at least one of each of {len(class_names)} classes."
        )
