"""Feature skew: noise on the images of some clients more than on those of others."""

from dataclasses import replace

import numpy as np

from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError


def feature_noise(
    rng: np.random.Generator, dataset: Dataset, partition: Partition, variance: float
) -> Dataset:
    """Adds Gaussian noise to each client's images, once and for all.

    x + N(0, sigma i / N) for client i of 1 to N, as the text of NIID-Bench (arXiv
    2102.02079), on pixels x in [0, 1] that are not clipped; its code adds noise of the
    standard deviation sigma (i - 1) / (N - 1), anew each time an image is seen. Here an
    example has one owner, so that its noise belongs to the data: drawn on the host it
    is part of what every method, round and view sees, and no round draws it again.

    Args:
      rng: source of randomness; example j takes the j-th draw.
      dataset: n training examples on the host.
      partition: of them among N clients.
      variance: sigma, >= 0; in the units of float32 images where they are.

    Returns:
      The data set with float32 images, normalised: four times the memory of uint8, and
      grey where crops are padded with zeros.

    Raises:
      ValueError: if the variance is negative or not finite.
    """
    if not 0 <= variance < float("inf"):
        raise InputError(f"variance={variance}: expected a number >= 0.")
    clients = len(partition.count)
    owner, column = np.nonzero(partition.index >= 0)
    deviation = np.zeros(len(dataset.label), np.float32)
    deviation[partition.index[owner, column]] = np.sqrt(
        variance * (owner + 1) / clients
    )
    # For all examples in their order, so that no example's noise depends on the owners
    # of others. In float32 and in place: each copy is four times the images.
    noise = rng.standard_normal(dataset.image.shape, np.float32)
    noise *= deviation[:, None, None, None]
    if dataset.image.dtype == np.uint8:
        # As `normalize`: a unit of x is two of the images that networks take.
        noise *= 2
        noise += (dataset.image.astype(np.float32) / 255 - 0.5) / 0.5
    else:
        noise += dataset.image
    return replace(dataset, image=noise)
