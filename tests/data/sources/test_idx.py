"""The four files of MNIST and its kind."""

import gzip
import struct

import numpy as np
import pytest

from fedjax_sl.data import DataError, load


SPLITS = {"train": "train", "test": "t10k"}
LABELS = {"train": [2, 0, 1, 1], "test": [1, 1]}


def content(array):
    """As in the published description of the format."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def written(tmp_path):
    """`written(packed)` writes the files; it returns their folder and the images."""

    def written(packed=False):
        images = {}
        for split, prefix in SPLITS.items():
            label = np.array(LABELS[split], np.uint8)
            shape = (len(label), 3, 5)
            images[split] = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
            for kind, array in (("images-idx3", images[split]), ("labels-idx1", label)):
                text = content(array)
                path = tmp_path / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}"
                path.write_bytes(gzip.compress(text) if packed else text)
        return tmp_path, images

    return written


@pytest.mark.parametrize("packed", [False, True])
def test_both_splits_are_as_they_were_written(written, packed):
    folder, images = written(packed)
    for split in SPLITS:
        found = load(f"idx:{folder}", split=split)
        np.testing.assert_array_equal(found.image, images[split][..., None])
        assert found.label.tolist() == LABELS[split] and found.num_classes == 3


def test_a_file_that_is_missing(written):
    folder, _ = written()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert len(load(f"idx:{folder}", split="train").label) == 4
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte or .*gz in .*neither"):
        load(f"idx:{folder}", split="test")


@pytest.mark.parametrize(
    "damage, said",
    [
        (
            lambda text: text[:-1],
            "has 75 bytes: expected 16 and as many as .4, 3, 5.",
        ),
        (lambda text: text + b"0", "has 77 bytes: expected 16"),
        (lambda text: text[:9], "has 9 bytes: expected 16 or more"),
        (lambda text: b"", "begins with nothing: expected 00000803, 3 axes"),
        (
            lambda text: b"\0\0\x0d" + text[3:],
            "begins with 00000d03: expected",
        ),
    ],
)
def test_damage(written, damage, said):
    folder, _ = written()
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path} {said}"):
        load(f"idx:{folder}", split="train")


@pytest.mark.parametrize("cut", [0, 30])
def test_damaged_gzip(written, cut):
    folder, _ = written(packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut] or b"text")
    with pytest.raises(DataError, match=f"{path} is damaged: expected gzip"):
        load(f"idx:{folder}", split="train")


def test_an_array_too_large_for_any_integer(written):
    folder, _ = written()
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, *[2**32 - 1] * 3))
    with pytest.raises(DataError, match="has 16 bytes: expected"):
        load(f"idx:{folder}", split="train")
