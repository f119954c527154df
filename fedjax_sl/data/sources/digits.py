"""scikit-learn's embedded digits."""

from typing import Any

import numpy as np

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.pictures import to_uint8


def digits(split: str, image_size: int | None) -> Dataset:
    """Loads the digits; every fifth example of each digit is in the test split.

    Raises:
      DataError: if there is no such split.
    """
    # Both are slow, and not needed for other sets.
    from PIL import Image
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise DataError(f"split={split!r}: digits has 'train' and 'test'.")
    embedded: Any = load_digits()
    # By rank within each digit: needs no seed, and keeps every class's share.
    for_test = np.zeros(len(embedded.target), bool)
    for digit in range(10):
        for_test[np.flatnonzero(embedded.target == digit)[4::5]] = True
    chosen = for_test if split == "test" else ~for_test
    # scikit-learn's levels are 0 to 16.
    grey = np.round(embedded.images[chosen] * (255 / 16)).astype(np.uint8)
    return Dataset(
        image=np.stack(
            [to_uint8(Image.fromarray(image), "L", image_size) for image in grey]
        ),
        label=embedded.target[chosen].astype(np.int32),
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
    )
