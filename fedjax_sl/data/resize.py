"""Resizes whole arrays of images."""

import numpy as np


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes images to squares (bilinear), channel by channel.

    Args:
      image: `[n, H, W, Ch]` uint8 or float32.
      size: pixels a side.

    Returns:
      `[n, size, size, Ch]` of the same dtype; the same array if it has that size.
    """
    if image.shape[1:3] == (size, size):
        return image
    # Late: it takes a quarter of a second.
    from PIL import Image

    found = np.empty((len(image), size, size, image.shape[3]), image.dtype)
    for old, new in zip(image, found, strict=True):
        # One by one: Pillow has no float images of several channels, nor bytes of five.
        for channel in range(image.shape[3]):
            # Contiguous: Pillow takes no strides.
            plane = Image.fromarray(np.ascontiguousarray(old[..., channel]))
            plane = plane.resize((size, size), Image.Resampling.BILINEAR)
            new[..., channel] = np.asarray(plane)
    return found
