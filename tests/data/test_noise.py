"""Noise that grows from client to client."""

import numpy as np
import pytest

from fedjax_sl.data import Dataset, feature_noise, natural
from fedjax_sl.data.cohort import normalize


def rng(seed=0):
    return np.random.default_rng(seed)


def world(clients=4, each=50, dtype=np.uint8):
    image = rng().integers(0, 256, (clients * each, 16, 16, 1)).astype(dtype)
    owner = rng(1).permutation(np.repeat(np.arange(clients), each))
    data = Dataset.from_arrays(image, np.zeros(len(image), int), client=owner)
    return data, natural(data.client)


@pytest.mark.parametrize("dtype, unit", [(np.uint8, 2), (np.float32, 1)])
def test_the_variance_grows_with_the_client(dtype, unit):
    """As sigma i / N on pixels in [0, 1], which normalised images have twice as far."""
    data, partition = world(dtype=dtype)
    noisy = feature_noise(rng(), data, partition, 0.1)
    assert noisy.image.dtype == np.float32
    for client, row in enumerate(partition.index):
        added = (noisy.image - np.asarray(normalize(data.image)))[row] / unit
        expected = 0.1 * (client + 1) / 4
        # Of n normal draws, relative, the variance errs by sqrt(2 / n).
        assert abs(added.var() / expected - 1) < 5 * (2 / added.size) ** 0.5
        assert abs(added.mean()) < 5 * (expected / added.size) ** 0.5


def test_no_noise_changes_no_image():
    data, partition = world()
    image = feature_noise(rng(), data, partition, 0.0).image
    np.testing.assert_allclose(image, normalize(data.image), rtol=0, atol=1e-6)


def test_the_seed_decides_and_labels_stay():
    data, partition = world()
    one, again, other = (feature_noise(rng(n), data, partition, 0.1) for n in (0, 0, 1))
    np.testing.assert_array_equal(one.image, again.image)
    assert (one.image != other.image).any()
    assert one.label is data.label and one.client is data.client


def test_an_example_has_its_noise_whoever_else_is_there():
    data, partition = world()
    few = data.first(60)
    some = feature_noise(rng(), few, natural(few.client), 0.1).image
    np.testing.assert_array_equal(
        some, feature_noise(rng(), data, partition, 0.1).image[:60]
    )


@pytest.mark.parametrize("variance", [-0.1, float("nan"), float("inf")])
def test_a_variance_out_of_range(variance):
    with pytest.raises(ValueError, match=f"variance={variance}: expected a number"):
        feature_noise(rng(), *world(), variance)
