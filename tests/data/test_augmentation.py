"""Random crops and flips: every view is a window of the padded image."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.algorithm import Examples
from fedjax_sl.data.augmentation import augmented
from fedjax_sl.data.cohort import take


SIDES, CROP = (8, 6), 3
MODES = {"reflect": "reflect", "zero": "constant"}


@pytest.fixture
def examples(key):
    """Images of which no two windows are alike."""
    image = jax.random.randint(key, (5, *SIDES, 2), 1, 256).astype(jnp.uint8)
    return Examples(image, jnp.arange(5))


def views_of(image, padding, flip):
    """Every window of an image, as bytes."""
    pad = [(CROP, CROP), (CROP, CROP), (0, 0)]
    wide = np.pad(np.asarray(image), pad, mode=MODES[padding])
    height, width = SIDES
    windows = [
        wide[y : y + height, x : x + width]
        for y in range(2 * CROP + 1)
        for x in range(2 * CROP + 1)
    ]
    if flip:
        windows += [window[:, ::-1] for window in windows]
    return [window.tobytes() for window in windows]


def pixels(normalized):
    """The uint8 images that were normalised."""
    return np.rint((np.asarray(normalized) + 1) / 2 * 255).astype(np.uint8)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("flip", [False, True])
def test_views_are_all_windows_equally_often(key, examples, padding, flip):
    """49 windows, and as many mirrored ones, some of which reflection makes alike."""
    index = jnp.full((1,), 2)
    options = dict(crop_pixels=CROP, crop_padding=padding, flip=flip)
    view = partial(augmented, **options)
    keys = jax.random.split(key, 4000)
    batches = jax.jit(jax.vmap(lambda k: view(k, examples, index, jnp.ones(1))))(keys)
    seen = [image.tobytes() for image in pixels(batches.image[:, 0])]
    windows = Counter(views_of(examples.image[2], padding, flip))
    assert windows.total() == 49 * (1 + flip)
    counts = np.array([seen.count(window) for window in windows])
    assert counts.sum() == 4000
    expected = 4000 * np.array(list(windows.values())) / windows.total()
    # Chi square of as many degrees of freedom; six standard deviations.
    chance = ((counts - expected) ** 2 / expected).sum()
    assert chance < len(windows) + 6 * np.sqrt(2 * len(windows))


@pytest.mark.slow
def test_a_view_does_not_depend_on_the_rest_of_the_batch(key, examples):
    view = partial(augmented, crop_pixels=2, crop_padding="reflect", flip=True)
    whole = view(key, examples, jnp.array([0, 3, 4, 1]), jnp.ones(4))
    part = view(key, examples, jnp.array([4, 0]), jnp.ones(2))
    np.testing.assert_array_equal(part.image, whole.image[jnp.array([2, 0])])
    np.testing.assert_array_equal(part.label, [4, 0])


def test_examples_of_a_batch_have_views_of_their_own(key, examples):
    """Of one image under five indices, not all windows are the same."""
    same = examples._replace(image=jnp.stack([examples.image[0]] * 5))
    view = partial(augmented, crop_pixels=CROP, crop_padding="reflect", flip=True)
    images = view(key, same, jnp.arange(5), jnp.ones(5)).image
    assert len({np.asarray(image).tobytes() for image in images}) > 1


def test_without_options_the_batch_is_as_it_is(key, examples):
    index, weight = jnp.array([1, 2]), jnp.array([1.0, 0.0])
    same = augmented(
        key, examples, index, weight, crop_pixels=0, crop_padding="zero", flip=False
    )
    for got, expected in zip(same, take(examples, index, weight), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_float_images_keep_their_values(key):
    image = jax.random.normal(key, (2, *SIDES, 1))
    batch = augmented(
        *(key, Examples(image, jnp.zeros(2, int)), jnp.arange(2), jnp.ones(2)),
        crop_pixels=0,
        crop_padding="reflect",
        flip=True,
    )
    for view, whole in zip(batch.image, image, strict=True):
        assert (view == whole).all() or (view == whole[:, ::-1]).all()


def test_a_crop_as_large_as_the_image_is_refused(key, examples):
    with pytest.raises(ValueError, match="crop_pixels=6: expected less than 6"):
        augmented(
            *(key, examples, jnp.arange(2), jnp.ones(2)),
            crop_pixels=6,
            crop_padding="reflect",
            flip=False,
        )
