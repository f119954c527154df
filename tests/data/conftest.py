"""Data sets to test with: tiny ones prepared on the spot, and CIFAR-10 if at hand."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedjax_sl.data import load


@pytest.fixture(scope="session")
def cifar10_dir():
    """Where TFDS has prepared CIFAR-10; tests that ask for it are skipped without."""
    root = os.environ.get("TFDS_DATA_DIR")
    if root is None or not (Path(root) / "cifar10").is_dir():
        pytest.skip("set TFDS_DATA_DIR to where TFDS has prepared cifar10 to run this")
    return root


@pytest.fixture(scope="session")
def cifar10(cifar10_dir, tmp_path_factory):
    """`cifar10(split)` loads CIFAR-10, decoding each split once in all these tests."""
    places = {"data_dir": cifar10_dir, "cache_dir": tmp_path_factory.mktemp("cache")}
    return lambda split: load("cifar10", split=split, **places)


@pytest.fixture
def prepare(tmp_path):
    """Prepares a TFDS set named "tiny" as array_record, without TensorFlow.

    `prepare(splits, channels=3, **features)` takes `{split: [example, ...]}` with
    arrays or pictures as images, and returns the data_dir; features given replace or
    join the usual `image` and `label`.
    """
    import tensorflow_datasets as tfds

    def encoded(example):
        if "image" not in example:
            return example
        image, file = example["image"], io.BytesIO()
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(file, "png")
        return example | {"image": io.BytesIO(file.getvalue())}

    def prepare(splits, channels=3, **features):
        folder = tmp_path / "sets" / "tiny" / "1.0.0"
        folder.mkdir(parents=True, exist_ok=True)
        usual = {
            "image": tfds.features.Image(shape=(None, None, channels)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        info = tfds.core.DatasetInfo(
            builder=tfds.core.DatasetIdentity(
                name="tiny",
                version=tfds.core.Version("1.0.0"),
                data_dir=str(folder),
                module_name="tests",
            ),
            features=tfds.features.FeaturesDict(features or usual),
        )
        writer = tfds.core.SequentialWriter(info, 1000, file_format="array_record")
        writer.initialize_splits(list(splits))
        writer.add_examples({s: [encoded(e) for e in splits[s]] for s in splits})
        writer.close_all()
        return folder.parents[1]

    return prepare
