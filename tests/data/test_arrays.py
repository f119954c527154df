"""Arrays of a user's own: what is accepted, and what each refusal says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.data import Dataset


INTEGERS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()


def images(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_may_have_any_integer_dtype(dtype):
    found = Dataset.from_arrays(images(4, 5, 6, 3), np.array([0, 2, 1, 0], dtype))
    assert found.label.dtype == np.int32 and found.label.tolist() == [0, 2, 1, 0]
    assert found.class_names == ("0", "1", "2") and found.client is None


def test_uint8_images_are_neither_copied_nor_changed():
    image = images(4, 5, 6, 3)
    assert np.shares_memory(Dataset.from_arrays(image, [0, 0, 1, 1]).image, image)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_their_values(dtype):
    image = (images(3, 4, 4, 2) / 7).astype(dtype)
    found = Dataset.from_arrays(image, [0, 1, 2]).image
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, image.astype(np.float32))


def test_grey_images_get_a_channel():
    image = images(3, 4, 5)
    found = Dataset.from_arrays(image, [0, 1, 2]).image
    np.testing.assert_array_equal(found, image[..., None])


def test_a_test_split_takes_the_classes_of_training():
    found = Dataset.from_arrays(images(1, 4, 4), [1], class_names=["cat", "dog"])
    assert found.class_names == ("cat", "dog") and found.num_classes == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resizing_keeps_what_is_flat_and_the_mean_of_the_rest(dtype):
    flat = np.full((2, 6, 9, 3), 77, dtype)
    found = Dataset.from_arrays(flat, [0, 1], image_size=12).image
    assert found.shape == (2, 12, 12, 3) and found.dtype == dtype
    assert (found == 77).all()
    # Each channel by itself: one that is flat stays so beside one that is not.
    mixed = np.concatenate([flat[..., :1], images(2, 6, 9, 1, dtype=dtype)], -1)
    found = Dataset.from_arrays(mixed, [0, 1], image_size=3).image
    assert (found[..., 0] == 77).all() and np.ptp(found[..., 1]) > 0
    # Three times smaller, each pixel is a mean around its own block.
    assert abs(found[..., 1].mean() - mixed[..., 1].mean()) < 20


@given(st.lists(st.text(max_size=3), min_size=1, max_size=20))
def test_owners_are_numbered_in_ascending_order(ids):
    label = np.zeros(len(ids), int)
    found = Dataset.from_arrays(images(len(ids), 2, 2), label, client=ids).client
    names = sorted({*ids})
    assert [names[own] for own in found] == ids


def test_a_subset_keeps_each_owner_with_its_example():
    image = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
    data = Dataset.from_arrays(image, [0] * 6, client=[5, 7, 5, 9, 7, 9])
    rest, apart = data.divided(2)
    assert rest.client.tolist() == [0, 1, 0, 2] and apart.client.tolist() == [1, 2]
    assert data.first(3).client.tolist() == [0, 1, 0]


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=6),
    st.sampled_from(["class", "owner", "class, owner", "owner, class"]),
    st.data(),
)
def test_what_is_taken_of_sorted_data_is_of_every_class(sizes, order, draw):
    """As large a share of each, whatever else the examples are sorted by."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    # Each class has examples of all owners, of which there are some.
    label, owner = group, np.arange(len(group)) % len(sizes)
    keys = {"class": label, "owner": owner}
    rows = np.lexsort([keys[name] for name in reversed(order.split(", "))])
    label, owner = label[rows], owner[rows]
    image = np.arange(len(rows), dtype=np.uint16)[:, None, None].view(np.uint8)
    names = ["?"] * len(sizes)
    data = Dataset.from_arrays(image, label, client=owner, class_names=names)
    count = draw.draw(st.integers(1, len(rows) - 1))
    rest, apart = data.divided(count)
    share = np.array(sizes) * count / len(rows)
    for part, expected in ((apart, share), (rest, sizes - share)):
        found = np.bincount(part.label, minlength=len(sizes))
        assert (abs(found - expected) < 1).all() and len(part.label) == found.sum()
    both = np.concatenate([part.image.reshape(-1, 2) for part in (rest, apart)])
    number = both.view(np.uint16)[:, 0]
    # Each image once, and with its own.
    np.testing.assert_array_equal(np.sort(number), np.arange(len(rows)))
    for name, column in (("label", label), ("client", owner)):
        kept = np.concatenate([getattr(part, name) for part in (rest, apart)])
        np.testing.assert_array_equal(kept, column[number])
    np.testing.assert_array_equal(data.first(count).label, apart.label)


def test_owners_and_classes_do_not_meet_in_what_is_held_out():
    """A hundred owners, the images of each in order of class: one of each is no class.

    Nor is a tenth of images in order of class those of one owner in ten.
    """
    image, number = np.zeros((10_000, 1, 1), np.uint8), np.arange(10_000)
    by_owner = Dataset.from_arrays(image, number // 10 % 10, client=number // 100)
    apart = by_owner.divided(100)[1]
    assert (np.bincount(apart.label) == 10).all() and len({*apart.client}) > 50
    by_class = Dataset.from_arrays(image, number // 1000, client=number % 10)
    apart = by_class.divided(1000)[1]
    assert (np.bincount(apart.client) > 70).all()


@pytest.mark.parametrize(
    "image, label, said",
    [
        (images(3, 4, 4), [0, 1], "3 images and 2 labels: expected as many"),
        (images(0, 4, 4), np.zeros(0, int), "0 images and 0 labels: .* at least 1"),
        (images(0, 4, 4, dtype=float), np.zeros(0, int), "0 images and 0 labels"),
        (images(3, 4), [0, 1, 2], r"image of shape \(3, 4\): expected \[n, H, W\] or"),
        (images(2, 4, 4, 3, 1), [0, 1], r"shape \(2, 4, 4, 3, 1\): expected"),
        (images(2, 3, 8, 8), [0, 1], r"\(2, 3, 8, 8\): .* channels last"),
        (images(2, 4, 4, dtype=int), [0, 1], "image of dtype int64: expected uint8 or"),
        ([[1], [1, 2]], [0, 1], "image: expected an array, its rows of one shape"),
        (np.array([0, np.nan, 1]).reshape(3, 1, 1), [0, 1, 2], "image 1 has a pixel"),
        (np.full((1, 2, 2), 1e300), [0], "image 0 has a pixel that is NaN or infinite"),
        (images(2, 4, 4), [0.0, 1.0], "label of dtype float64: expected integers"),
        (images(2, 4, 4), [[1, 0], [0, 1]], r"label of shape \(2, 2\): expected \[n\]"),
        (images(2, 4, 4), [0, -1], "label=-1: expected 0 or more"),
        (images(3, 4, 4), [0, 3, 1], "label=2: no training example has it, and some"),
        (images(2, 4, 4), [1, 2], "label=0: no training example has it"),
        (images(2, 4, 4), [0, 2**40], "label=1: no training example has it"),
    ],
)
def test_what_cannot_be_meant(image, label, said):
    with pytest.raises(ValueError, match=said):
        Dataset.from_arrays(image, label)


def test_labels_outside_of_given_classes():
    for label in (2, 2**32):
        with pytest.raises(ValueError, match=f"label={label}: expected 0 to 1"):
            Dataset.from_arrays(images(1, 4, 4), [label], class_names=["cat", "dog"])


@pytest.mark.parametrize(
    "client, said",
    [
        ([0, 1], r"client of shape \(2,\) .*: expected an integer for each of 3"),
        ([0.0, 1.0, 2.0], "dtype float64: expected .n. integers or texts"),
        ([[0], [1], [2]], r"client of shape \(3, 1\)"),
        ([None, "a", "b"], "dtype object: expected"),
    ],
)
def test_owners_that_cannot_be_meant(client, said):
    with pytest.raises(ValueError, match=said):
        Dataset.from_arrays(images(3, 4, 4), [0, 1, 0], client=client)
