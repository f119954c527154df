"""scikit-learn's embedded digits."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.pictures import to_uint8


def _embedded() -> np.ndarray:
    """Returns the 64 pixels and the label of each digit, `[1797, 65]`.

    `sklearn.datasets.load_digits` reads the same file, and takes 1.5 s to import.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    path = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    return np.loadtxt(path, delimiter=",", dtype=np.uint8)


def digits(split: str, image_size: int | None) -> Dataset:
    """Loads the digits; every fifth example of each digit is in the test split.

    Raises:
      DataError: if there is no such split.
    """
    # Slow to import, and not needed for other sets.
    from PIL import Image

    if split not in ("train", "test"):
        raise DataError(f"split={split!r}: digits has 'train' and 'test'.")
    embedded = _embedded()
    pixels, labels = embedded[:, :-1].reshape(-1, 8, 8), embedded[:, -1]
    # By rank within each digit: needs no seed, and keeps every class's share.
    for_test = np.zeros(len(labels), bool)
    for digit in range(10):
        for_test[np.flatnonzero(labels == digit)[4::5]] = True
    chosen = for_test if split == "test" else ~for_test
    # scikit-learn's levels are 0 to 16.
    grey = np.round(pixels[chosen] * (255 / 16)).astype(np.uint8)
    return Dataset(
        image=np.stack(
            [to_uint8(Image.fromarray(image), "L", image_size) for image in grey]
        ),
        label=labels[chosen].astype(np.int32),
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
    )
