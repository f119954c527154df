import hashlib
import json
import os
import subprocess
import sys
from importlib import import_module

import jax
import numpy as np
import pytest
from PIL import Image

from fedjax_sl.data import DataError, load


def flat(value, size=(4, 4), channels=3):
    """A picture of one colour."""
    return np.full((*size, channels), value, np.uint8)


def examples(*values):
    return [{"image": flat(value), "label": value % 2} for value in values]


# The digits


def test_digits_are_divided_once_and_for_all():
    from sklearn.datasets import load_digits

    train, test = load("digits", split="train"), load("digits", split="test")
    assert train.image.dtype == np.uint8 and train.label.dtype == np.int32
    assert train.image.shape[1:] == (8, 8, 1) and train.image.max() == 255
    everything = np.concatenate([train.image, test.image]).reshape(-1, 64)
    labels = np.concatenate([train.label, test.label])
    levels, target = load_digits(return_X_y=True)
    original = np.round(levels * 255 / 16).astype(np.uint8)
    ours = sorted(zip(map(bytes, everything), labels, strict=True))
    assert ours == sorted(zip(map(bytes, original), target, strict=True))
    again = load("digits", split="test")
    np.testing.assert_array_equal(test.image, again.image)


def test_digits_keep_each_class_share():
    train, test = load("digits", split="train"), load("digits", split="test")
    in_train, in_test = np.bincount(train.label), np.bincount(test.label)
    np.testing.assert_array_equal(in_test, (in_train + in_test) // 5)


def test_digits_need_no_tfds():
    code = (
        "import sys; from fedjax_sl.data import load; load('digits', split='test'); "
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_digits_are_resized():
    small = load("digits", split="test")
    large = load("digits", split="test", image_size=32)
    assert large.image.shape == (len(small.label), 32, 32, 1)
    # Each pixel becomes 4 x 4 that interpolate, so a block can leave its pixel's value
    # by no more than the largest step to a neighbour; on average it keeps it.
    blocks = large.image.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    error = blocks - small.image[..., 0]
    assert abs(error.mean()) < 1 and abs(error).mean() < 32


def test_a_dataset_is_a_tree_of_two_arrays():
    digits = load("digits", split="test")
    assert digits.num_classes == 10
    assert len(jax.tree.leaves(digits)) == 2
    doubled = jax.jit(lambda d: jax.tree.map(lambda x: x * 2, d))(digits)
    assert doubled.class_names == digits.class_names and doubled.name == "digits"
    np.testing.assert_array_equal(doubled.label, digits.label * 2)


# Prepared sets


def test_order_follows_the_ids(prepare, tmp_path):
    import tensorflow_datasets as tfds

    shuffled = [3, 0, 4, 1, 2]
    data_dir = prepare(
        {"train": [e | {"id": f"{e['image'][0, 0, 0]}"} for e in examples(*shuffled)]},
        id=tfds.features.Text(),
        image=tfds.features.Image(),
        label=tfds.features.ClassLabel(num_classes=2),
    )
    tiny = load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)
    np.testing.assert_array_equal(tiny.image[:, 0, 0, 0], range(5))
    np.testing.assert_array_equal(tiny.label, [0, 1, 0, 1, 0])


def test_order_is_as_prepared_without_ids(prepare, tmp_path):
    data_dir = prepare({"train": examples(3, 0, 4)})
    tiny = load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)
    np.testing.assert_array_equal(tiny.image[:, 0, 0, 0], [3, 0, 4])
    assert tiny.class_names == ("even", "odd") and tiny.label.dtype == np.int32


@pytest.mark.parametrize(
    "picture, channels, expected",
    [
        (Image.new("L", (2, 2), 7), 1, [7]),
        (Image.new("LA", (2, 2), (7, 100)), 1, [7]),
        (Image.new("L", (2, 2), 7), 3, [7, 7, 7]),
        (Image.new("RGB", (2, 2), (1, 2, 3)), 3, [1, 2, 3]),
        (Image.new("RGBA", (2, 2), (1, 2, 3, 100)), 4, [1, 2, 3]),
        (Image.new("1", (2, 2), 1), 1, [255]),
        (Image.fromarray(np.full((2, 2), 0x7B10, np.uint16)), 1, [0x7B]),
        (Image.fromarray(np.full((2, 2), 0xFFFF, np.uint16)), 3, [255, 255, 255]),
    ],
)
def test_every_depth_becomes_eight_bits(prepare, tmp_path, picture, channels, expected):
    data_dir = prepare({"train": [{"image": picture, "label": 0}]}, channels)
    tiny = load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)
    assert tiny.image.dtype == np.uint8
    np.testing.assert_array_equal(
        tiny.image[0], np.full((2, 2, len(expected)), expected)
    )


def test_sizes_that_differ_need_a_size(prepare, tmp_path):
    pictures = [flat(9, (4, 6)), flat(8, (2, 2))]
    data_dir = prepare({"train": [{"image": p, "label": 0} for p in pictures]})
    given = {"split": "train", "data_dir": data_dir, "cache_dir": tmp_path}
    with pytest.raises(DataError, match=r"\(4, 6, 3\), \(2, 2, 3\).*image_size"):
        load("tiny", **given)
    tiny = load("tiny", image_size=5, **given)
    assert tiny.image.shape == (2, 5, 5, 3)
    assert (tiny.image[0] == 9).all() and (tiny.image[1] == 8).all()


def test_validation_stands_in_for_a_missing_test_split(prepare, tmp_path):
    data_dir = prepare({"train": examples(1), "validation": examples(2)})
    tiny = load("tiny", split="test", data_dir=data_dir, cache_dir=tmp_path)
    assert tiny.image[0, 0, 0, 0] == 2


def test_a_test_split_is_not_replaced(prepare, tmp_path):
    data_dir = prepare({"test": examples(1), "validation": examples(2)})
    tiny = load("tiny", split="test", data_dir=data_dir, cache_dir=tmp_path)
    assert tiny.image[0, 0, 0, 0] == 1


# What is refused


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(
        DataError, match="'cifar-10' is unknown.*did you mean.*'cifar10'"
    ):
        load("cifar-10", split="train", data_dir=tmp_path)
    with pytest.raises(DataError, match="'digit' is unknown.*'digits'"):
        load("digit", split="train", data_dir=tmp_path)
    with pytest.raises(DataError, match="'no such thing' is unknown.*Datasets[.]"):
        load("no such thing", split="train", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "imagenet_resized/32x32"])
def test_known_but_not_prepared_gives_the_command(tmp_path, name):
    with pytest.raises(DataError) as refusal:
        load(name, split="train", data_dir=tmp_path)
    command = (
        'pip install tensorflow-cpu && python -c "import tensorflow_datasets as '
        f"tfds; tfds.builder('{name}', data_dir='{tmp_path}')."
        "download_and_prepare(file_format='array_record')\""
    )
    assert str(refusal.value).endswith(command)


@pytest.mark.parametrize("has", ["image", "label"])
def test_only_image_classification_sets(prepare, tmp_path, has):
    import tensorflow_datasets as tfds

    usual = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    features = {"text": tfds.features.Text(), has: usual[has]}
    example = {"image": flat(1), "label": 0, "text": "a"}
    example = {name: example[name] for name in features}
    data_dir = prepare({"train": [example]}, **features)
    with pytest.raises(DataError, match="no image-classification set.*'text': 'Text'"):
        load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)


def test_missing_splits_are_listed(prepare, tmp_path):
    data_dir = prepare({"train": examples(1), "validation": examples(2)})
    with pytest.raises(DataError, match="'extra': tiny has 'train', 'validation'"):
        load("tiny", split="extra", data_dir=data_dir, cache_dir=tmp_path)
    with pytest.raises(DataError, match="'validation': digits has 'train' and 'test'"):
        load("digits", split="validation")


@pytest.mark.parametrize(
    "labels, said", [([-1], "1 of 1 have none"), ([0, -1, 1], "1 of 3 have none")]
)
def test_missing_labels(prepare, tmp_path, labels, said):
    data_dir = prepare({"test": [{"image": flat(1), "label": one} for one in labels]})
    with pytest.raises(DataError, match=f"'test' of tiny: expected a label.*{said}"):
        load("tiny", split="test", data_dir=data_dir, cache_dir=tmp_path)


def test_an_empty_split(prepare, tmp_path):
    data_dir = prepare({"train": examples(1), "test": []})
    with pytest.raises(DataError, match="'test' of tiny has no examples"):
        load("tiny", split="test", data_dir=data_dir, cache_dir=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_files_that_cannot_be_read(prepare, tmp_path, damage):
    data_dir = prepare({"train": examples(1, 2)})
    [path] = data_dir.rglob("*array_record*")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(DataError, match="example 0 of split='train'.*is damaged"):
        load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_a_description_that_cannot_be_read(prepare, tmp_path, file):
    data_dir = prepare({"train": examples(1)})
    next(data_dir.rglob(file)).write_bytes(b"{\x00\xff")
    with pytest.raises(DataError, match="'tiny' in .*cannot be opened.*in order"):
        load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)


def test_images_larger_than_memory():
    with pytest.raises(DataError, match="image_size=100000000.*do not fit in memory"):
        load("digits", split="train", image_size=10**8)


def test_a_format_that_only_tensorflow_reads(prepare, tmp_path):
    data_dir = prepare({"train": examples(1)})
    info = data_dir / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(
        json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"})
    )
    with pytest.raises(DataError, match="as tfrecord.*ANOTHER_PLACE.*array_record"):
        load("tiny", split="train", data_dir=data_dir, cache_dir=tmp_path)


def test_sizes_below_one_pixel():
    with pytest.raises(DataError, match="image_size=0"):
        load("digits", split="train", image_size=0)


# The cache


@pytest.fixture
def tiny(prepare, tmp_path):
    """Loads a small set with a cache of its own; `tiny.cache` is where."""
    data_dir = prepare({"train": examples(3, 0, 4), "test": examples(5)})

    def tiny(split="train", **options):
        given = {"data_dir": data_dir, "cache_dir": tiny.cache}
        return load("tiny", split=split, **given | options)

    tiny.cache, tiny.data_dir = tmp_path / "cache", data_dir
    return tiny


@pytest.fixture
def decodings(monkeypatch):
    """How often a set has been decoded, as the length of a list."""
    source = import_module("fedjax_sl.data.sources.prepared")
    calls, decode = [], source.decode

    def counted(*args):
        calls.append(args)
        return decode(*args)

    monkeypatch.setattr(source, "decode", counted)
    return calls


def test_a_set_is_decoded_once(tiny, decodings):
    first, second = tiny(), tiny()
    assert len(decodings) == 1
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label, second.label)
    assert type(second.image) is np.ndarray and second.label.dtype == np.int32
    [folder] = tiny.cache.iterdir()
    assert {file.name for file in folder.iterdir()} == {"image.npy", "label.npy"}


def test_what_decodes_differently_is_kept_apart(tiny, decodings):
    for _ in range(2):
        assert tiny().image.shape == (3, 4, 4, 3)
        assert tiny(image_size=2).image.shape == (3, 2, 2, 3)
        assert tiny(split="test").image.shape == (1, 4, 4, 3)
    assert len(decodings) == 3


def test_a_set_prepared_anew_is_decoded_anew(tiny, decodings, prepare):
    assert len(tiny().label) == 3
    prepare({"train": examples(1, 2)})
    os.utime(tiny.data_dir / "tiny" / "1.0.0" / "dataset_info.json", (0, 0))
    assert len(tiny().label) == 2 and len(decodings) == 2


@pytest.mark.parametrize("file", ["image.npy", "label.npy"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "pickle", "other"])
def test_a_torn_cache_is_made_again(tiny, decodings, file, damage):
    first = tiny()
    [path] = tiny.cache.glob(f"*/{file}")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "pickle":
        np.save(path, np.array([{}], object), allow_pickle=True)
    else:
        np.save(path, np.zeros((2, 2)))
    np.testing.assert_array_equal(tiny().image, first.image)
    assert len(decodings) == 2
    np.testing.assert_array_equal(tiny().label, first.label)
    assert len(decodings) == 2


def test_without_a_place_for_the_cache_there_is_a_warning(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept.*decoded again"):
        data = tiny(cache_dir=tmp_path / "file" / "cache")
    np.testing.assert_array_equal(data.image[:, 0, 0, 0], [3, 0, 4])


def test_a_write_that_fails_leaves_nothing_behind(tiny, monkeypatch, decodings):
    def full(file, array, allow_pickle):
        with open(file, "wb") as half:
            half.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="disk full"):
        patch.setattr(np, "save", full)
        tiny()
    assert not [path for path in tiny.cache.rglob("*") if path.is_file()]
    for _ in range(2):
        tiny()
    assert len(decodings) == 2


def test_the_default_cache_is_the_users(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    tiny(cache_dir=None)
    assert list((tmp_path / "xdg" / "fedjax_sl").glob("tiny-1.0.0-train-*/image.npy"))


# CIFAR-10 itself


@pytest.mark.slow
def test_cifar10_training_images_in_their_published_order(cifar10):
    train = cifar10("train")
    assert train.image.shape == (50_000, 32, 32, 3) and train.num_classes == 10
    np.testing.assert_array_equal(np.bincount(train.label), 5000)
    # The first of the published binary batches: a label, then the three colour planes.
    planes = train.image[:10_000].transpose(0, 3, 1, 2).reshape(10_000, -1)
    records = np.concatenate([train.label[:10_000, None].astype(np.uint8), planes], 1)
    assert hashlib.md5(records.tobytes()).hexdigest().startswith("5dd7e06a")


@pytest.mark.slow
def test_cifar10_is_neither_decoded_nor_read_the_second_time(cifar10, decodings):
    """It is mapped from its file."""
    first = cifar10("train")
    decodings.clear()
    second = cifar10("train")
    assert not decodings
    assert isinstance(second.image.base, np.memmap)
    np.testing.assert_array_equal(first.label, second.label)


@pytest.mark.slow
def test_cifar10_test_images(cifar10):
    test = cifar10("test")
    assert test.image.shape[1:] == (32, 32, 3) and test.image.dtype == np.uint8
    assert test.class_names[0] == "airplane" and test.class_names[9] == "truck"
    per_class = np.bincount(test.label, minlength=10)
    assert len(test.label) <= 10_000 and per_class.max() == 1000
