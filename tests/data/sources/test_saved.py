"""Folders that Hugging Face's `datasets` saved; skipped where it is not installed."""

import sys

import numpy as np
import pytest

from fedjax_sl.data import DataError, load


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), np.uint8)


@pytest.fixture
def written(tmp_path):
    """`written(*splits)` saves some, and returns the name of the data set."""
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    def written(*splits):
        features = datasets.Features(
            image=datasets.Image(),
            label=datasets.ClassLabel(names=["cat", "dog"]),
            client=datasets.Value("string"),
        )
        rows = {
            "image": [Image.fromarray(one) for one in pictures(4)],
            "label": [0, 1, 1, 0],
            "client": ["b", "a", "a", "b"],
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        datasets.DatasetDict({split: table for split in splits}).save_to_disk(
            str(tmp_path / "saved")
        )
        return f"hf:{tmp_path}/saved"

    return written


def test_both_splits_are_as_they_were_saved(written):
    name = written("train", "test")
    for split in ("train", "test"):
        found = load(name, split=split)
        np.testing.assert_array_equal(found.image, pictures(4))
        assert found.label.tolist() == [0, 1, 1, 0] and found.name == name
        assert found.class_names == ("cat", "dog")
        assert found.client.tolist() == [1, 0, 0, 1]


def test_validation_stands_in_for_a_missing_test_split(written):
    assert len(load(written("train", "validation"), split="test").label) == 4


def test_without_a_test_split(written):
    with pytest.raises(DataError, match="has the splits train: .*--data.held-out"):
        load(written("train"), split="test")


def test_what_is_no_saved_set(written, tmp_path):
    name = written("train")
    with pytest.raises(DataError, match="expected a DatasetDict that save_to_disk"):
        load(f"hf:{tmp_path}", split="train")
    for path in (tmp_path / "saved/train").glob("*.arrow"):
        path.write_bytes(b"text")
    with pytest.raises(DataError, match="saved cannot be read: "):
        load(name, split="train")


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'fedjax-sl\[hf\]'"):
        load(f"hf:{tmp_path}", split="train")
