"""Converts decoded pictures to arrays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedjax_sl.data.data_error import DataError


if TYPE_CHECKING:
    from PIL import Image


GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
"""Pillow's modes without colour."""


def to_uint8(picture: "Image.Image", mode: str, image_size: int | None) -> np.ndarray:
    """Converts a picture of any depth to an array of 8-bit channels.

    Args:
      picture: 1 to 16 bits a channel; the upper 8 of 16 bits are kept, and a fourth
        channel is dropped.
      mode: "L" for grey, "RGB" for colour.
      image_size: pixels a side to resize to (bilinear), or None.

    Returns:
      `[H, W, Ch]` uint8.
    """
    # Late: it takes a quarter of a second.
    from PIL import Image

    # Pillow's own conversion clips 16 bits at 255.
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert(mode)
    # After the conversion: indices into a palette cannot be interpolated.
    if image_size is not None:
        size = (image_size, image_size)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(picture.height, picture.width, -1)


def in_own_colours(picture: "Image.Image", image_size: int | None) -> np.ndarray:
    """Converts a picture to `[H, W, 1]` if it is grey, `[H, W, 3]` otherwise."""
    return to_uint8(picture, "L" if picture.mode in GREY else "RGB", image_size)


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks pictures of one size; where some have colours, all become RGB.

    Args:
      images: n pictures `[H, W, 1]` or `[H, W, 3]` uint8, at least one.

    Returns:
      `[n, H, W, Ch]` uint8.

    Raises:
      DataError: if their sizes differ.
    """
    # Not a set: the sentence names the first size, and the next that differs.
    sizes = list(dict.fromkeys(image.shape[:2] for image in images))
    if len(sizes) > 1:
        raise DataError(
            f"its images differ in size ({sizes[0]}, {sizes[1]}, ...): give an "
            "image_size to resize them to."
        )
    channels = max(image.shape[2] for image in images)
    found = np.empty((len(images), *sizes[0], channels), np.uint8)
    for row, image in zip(found, images, strict=True):
        row[:] = image  # a grey one into all three channels
    return found
