"""A source is one function, and a line in the registry."""

import os

import numpy as np
import pytest

from fedjax_sl.data import SOURCES, DataError, Dataset, load
from fedjax_sl.data.sources import ENTRY_POINTS, _installed, place_of
from tests.hanging import in_good_time  # noqa: F401
from tests.packages import install


def count(place, split, image_size):
    """As many black images as the place says."""
    image = np.zeros((int(place), image_size or 4, image_size or 4), np.uint8)
    return Dataset.from_arrays(image, np.arange(int(place)) % 2)


def test_a_line_is_all_it_takes(monkeypatch):
    monkeypatch.setitem(SOURCES, "black", count)
    found = load("black:6", split="train", image_size=8)
    assert found.image.shape == (6, 8, 8, 1) and found.name == "black:6"
    with pytest.raises(DataError, match="^black:0: 0 images and 0 labels"):
        load("black:0", split="train")


def test_another_package_registers_its_own(tmp_path, monkeypatch):
    install(tmp_path, ENTRY_POINTS, {"black": f"{__name__}:count"})
    monkeypatch.syspath_prepend(str(tmp_path))
    _installed.cache_clear()
    assert len(load("black:4", split="test").label) == 4
    install(tmp_path, ENTRY_POINTS, {"npz": f"{__name__}:count"})
    _installed.cache_clear()
    with pytest.raises(ValueError, match="source 'npz': expected a name of its own"):
        place_of("npz:mine")
    monkeypatch.undo()
    _installed.cache_clear()


def test_names_of_tfds_are_no_places():
    for name in ("digits", "cifar10", "imagenet_resized/32x32", "mnist:3.0.1"):
        assert place_of(name) is None
    assert place_of("npz:a:b.npz") == ("npz", "a:b.npz")
    assert place_of("npz:~/a.npz") == ("npz", os.path.expanduser("~/a.npz"))


@pytest.mark.usefixtures("in_good_time")
@pytest.mark.parametrize(
    "name, path",
    [
        ("npz:{}/pipe.npz", "pipe.npz"),
        ("idx:{}", "train-labels-idx1-ubyte"),
        ("folder:{}", "train/a/pipe.png"),
    ],
)
def test_a_pipe_keeps_no_one_waiting(tmp_path, name, path):
    pipe = tmp_path / path
    pipe.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=f"{pipe} is no regular file"):
        load(name.format(tmp_path), split="train")
