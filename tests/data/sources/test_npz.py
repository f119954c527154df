"""An archive holds the arrays of both splits, and nothing that is passed over."""

import numpy as np
import pytest

from fedjax_sl.data import DataError, load


def arrays(**change):
    """The arrays of a whole archive; None leaves a key out."""
    rng = np.random.default_rng(0)
    usual = {
        "train_image": rng.integers(0, 256, (6, 4, 4, 3), np.uint8),
        "train_label": np.array([0, 1, 2, 0, 1, 2]),
        "test_image": rng.integers(0, 256, (2, 4, 4, 3), np.uint8),
        "test_label": np.array([1, 1]),
    }
    return {key: value for key, value in (usual | change).items() if value is not None}


@pytest.fixture
def written(tmp_path):
    """`written(**change)` writes an archive, and returns the name of the data set."""

    def written(save=np.savez, **change):
        save(tmp_path / "mine.npz", **arrays(**change))
        return f"npz:{tmp_path}/mine.npz"

    return written


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_splits_are_as_they_were_saved(written, save):
    name, saved = written(save), arrays()
    for split in ("train", "test"):
        found = load(name, split=split)
        np.testing.assert_array_equal(found.image, saved[f"{split}_image"])
        np.testing.assert_array_equal(found.label, saved[f"{split}_label"])
        assert found.class_names == ("0", "1", "2") and found.name == name


def test_owners_and_names_of_classes(written):
    ids = np.array(["b", "a", "b", "c", "c", "a"])
    name = written(train_client=ids, class_names=np.array(["x", "y", "z"]))
    train, test = load(name, split="train"), load(name, split="test")
    assert train.client.tolist() == [1, 0, 1, 2, 2, 0] and test.client is None
    assert train.class_names == test.class_names == ("x", "y", "z")


def test_images_are_resized(written):
    assert load(written(), split="train", image_size=8).image.shape == (6, 8, 8, 3)


def test_without_a_test_split(written):
    name = written(test_image=None, test_label=None)
    assert len(load(name, split="train").label) == 6
    with pytest.raises(DataError, match="no test_image and test_label.*held-out"):
        load(name, split="test")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"train_label": None}, "keys test_image, test_label, train_image: expected"),
        ({"test_label": None}, "keys test_image, train_image, train_label: expected"),
        (
            {"x_train": np.ones(1)},
            "keys .*, x_train: expected train_image",
        ),
        ({"train_label": np.array([0, 1])}, "6 images and 2 labels"),
        ({"train_label": np.arange(6) * 2}, "label=1: no training example has it"),
        ({"test_label": np.array([1, 3])}, "label=3: expected 0 to 2"),
        (
            {"class_names": np.array(list("abcd"))},
            "class 'd' .label 3. has no",
        ),
        ({"class_names": np.arange(3)}, "class_names of shape .3,. and dtype int64"),
        (
            {"train_label": np.array([0, 1, None] * 2)},
            "train_label cannot be read",
        ),
        (
            {"train_image": np.full((6, 2, 2), np.nan)},
            "image 0 has a pixel that is",
        ),
    ],
)
def test_what_is_refused(written, change, said):
    name, split = written(**change), "test" if "test_label" in change else "train"
    with pytest.raises(DataError, match=f"^{name}: .*{said}"):
        load(name, split=split)


def test_what_is_no_archive(tmp_path, written):
    with pytest.raises(DataError, match="No such file"):
        load(f"npz:{tmp_path}/none.npz", split="train")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match="is no archive of numpy.savez"):
        load(f"npz:{tmp_path}/text.npz", split="train")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="has one array: expected an archive"):
        load(f"npz:{tmp_path}/one.npy", split="train")
    with pytest.raises(DataError, match="split='extra': expected 'train' or 'test'"):
        load(written(), split="extra")
    path = tmp_path / "mine.npz"
    content = bytearray(path.read_bytes())
    content[300] ^= 255  # amid the pixels: the checksum of the archive tells
    path.write_bytes(content)
    with pytest.raises(DataError, match="train_image cannot be read: Bad CRC"):
        load(f"npz:{path}", split="train")
