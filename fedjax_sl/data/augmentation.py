"""Random crops and flips of training images, inside the compiled program.

A draw is keyed by its example, below a key that the caller derives from client, round
and step. So the views of an example do not depend on the rest of its batch.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Batch, Examples
from fedjax_sl.checks import check_choice
from fedjax_sl.data.cohort import normalize, take
from fedjax_sl.errors import InputError


Padding = Literal["reflect", "zero"]


def _lines(offset: jax.Array, size: int, crop: int) -> jax.Array:
    """Rows or columns of a crop, `[B, size]`; some may lie beyond the image."""
    return offset[:, None] - crop + jnp.arange(size)[None]


def _reflected(line: jax.Array, size: int) -> jax.Array:
    """Mirrors lines beyond the image at its first and last line, which stay single."""
    # One reflection is enough: a crop reaches at most size - 1 lines beyond.
    line = jnp.abs(line)
    return size - 1 - jnp.abs(size - 1 - line)


def _inside(line: jax.Array, size: int) -> jax.Array:
    return (line >= 0) & (line < size)


def augmented(
    key: jax.Array,
    examples: Examples,
    index: jax.Array,
    weight: jax.Array,
    *,
    crop_pixels: int,
    crop_padding: Padding,
    flip: bool,
) -> Batch:
    """Gathers the batch at these indices, each image randomly cropped and flipped.

    The image is padded by `crop_pixels` on every side, and a window of its own size is
    cut out, every position being equally likely; with probability 1/2 it is mirrored.

    Args:
      key: of this client, round and step.
      examples: n examples.
      index: `[B]` int32 in 0..n-1.
      weight: `[B]`, 0 for padding.
      crop_pixels: c, less than the images' height and width; 0 does not crop.
      crop_padding: reflect at the border, or pad with zeros: black in a uint8 image.
      flip: mirror images left to right.

    Returns:
      A `Batch`, its images normalised.

    Raises:
      ValueError: if the padding is unknown, or the images are too small.
    """
    check_choice("crop_padding", crop_padding, Padding)
    # Static options: a program without augmentation has none of its draws.
    if not crop_pixels and not flip:
        return take(examples, index, weight)
    height, width = examples.image.shape[1:3]
    if crop_pixels >= min(height, width):
        raise InputError(
            f"crop_pixels={crop_pixels}: expected less than {min(height, width)}, the "
            "pixels of a side of the images."
        )
    # Among all examples: a streamed round holds a part of them, under other indices.
    numbers = examples.numbers(index)
    keys = jax.vmap(lambda example: jax.random.fold_in(key, example))(numbers)
    # The flip is drawn even if it is off, so that switching it on moves no crop.
    limits = jnp.array([2 * crop_pixels + 1, 2 * crop_pixels + 1, 2])
    draws = jax.vmap(lambda own: jax.random.randint(own, (3,), 0, limits))(keys)
    row = _lines(draws[:, 0], height, crop_pixels)
    column = _lines(draws[:, 1], width, crop_pixels)
    if flip:
        # Indices are mirrored, not pixels, which the gather below moves anyway.
        column = jnp.where(draws[:, 2:] == 1, column[:, ::-1], column)
    # One gather finds the example and moves its pixels.
    image = examples.image[
        index[:, None, None],
        _reflected(row, height)[:, :, None],
        _reflected(column, width)[:, None, :],
    ]
    if crop_padding == "zero":
        inside = _inside(row, height)[:, :, None] & _inside(column, width)[:, None, :]
        # Before normalising: 0 is black in uint8, but mid-grey in float32.
        image = jnp.where(inside[..., None], image, jnp.zeros((), image.dtype))
    return Batch(normalize(image), examples.label[index], weight)
