"""Data that cannot be meant is refused in a sentence, whoever is handed it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.algorithm import Examples
from fedjax_sl.data import Dataset, Partition, draw_epochs, draw_minibatches, normalize
from fedjax_sl.data.cohort import take
from fedjax_sl.evaluation import evaluate
from tests.worlds import assert_close, tiny_dataset, tiny_partition


DATA = tiny_dataset(12)


def changed(**arrays):
    return dataclasses.replace(DATA, **arrays)


def with_label(value, dtype=np.int32):
    label = DATA.label.astype(dtype)
    label[3] = value
    return label


@pytest.mark.parametrize(
    "arrays, named",
    [
        ({"label": with_label(3)}, "label=3: expected 0 to 2, one of 3 classes"),
        ({"label": with_label(-1)}, "label=-1: expected 0 to 2"),
        ({"label": with_label(2**32, np.int64)}, "label=4294967296: expected 0 to 2"),
        ({"label": jnp.asarray(with_label(7))}, "label=7: expected 0 to 2"),
        (
            {"label": DATA.label.astype(float)},
            "label of dtype float64: expected integers",
        ),
        ({"label": DATA.label[:, None]}, r"label of shape \(12, 1\): expected \[n\]"),
        ({"label": DATA.label.tolist()}, "label: expected an array, found a list"),
        ({"label": DATA.label[1:]}, "12 images and 11 labels"),
        ({"image": DATA.image[:0], "label": DATA.label[:0]}, "0 images .* at least 1"),
        (
            {"image": DATA.image[..., 0]},
            r"image of shape \(12, 8, 8\): expected \[n, H",
        ),
        ({"image": DATA.image.astype(np.uint16)}, "image of dtype uint16: .*uint8"),
        (
            {"image": DATA.image / 255},
            "image of dtype float64: expected uint8, or float32",
        ),
        ({"image": DATA.image.astype(np.int8)}, "image of dtype int8"),
        ({"class_names": ["a", "b", "c"]}, "class_names=.*: expected a tuple"),
    ],
)
def test_a_data_set_that_cannot_be_meant(arrays, named):
    with pytest.raises(ValueError, match=named):
        changed(**arrays)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_labels_of_any_integers_are_taken(key, dtype):
    data = changed(label=DATA.label.astype(dtype))
    cohort = draw_minibatches(
        key,
        data,
        tiny_partition(DATA),
        round=0,
        period=0,
        cohort_size=2,
        batch_size=3,
    )
    assert cohort.examples.label.dtype == jnp.int32
    np.testing.assert_array_equal(cohort.examples.label, DATA.label)


def test_jax_may_put_anything_in_place_of_the_arrays(key):
    """Shapes, stacks and traced arrays; a data set may be a point of a sweep."""
    assert jax.tree.map(jnp.shape, DATA).label == (12,)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), DATA)
    assert stacked.image.shape[:2] == (2, 12)
    sums = jax.vmap(lambda data: data.label.sum())(stacked)
    assert (sums == DATA.label.sum()).all()
    assert jax.eval_shape(lambda x: changed(label=x), DATA.label).label.shape == (12,)


def test_the_first_of_the_examples():
    few = DATA.first(5)
    np.testing.assert_array_equal(few.image, DATA.image[:5])
    np.testing.assert_array_equal(few.label, DATA.label[:5])
    assert DATA.first(None) is DATA
    for count in (0, 13, 2.5):
        with pytest.raises(ValueError, match=f"test_examples={count}: expected"):
            DATA.first(count, "test_examples")


# Normalised or not


def linear(state, images):
    """Logits that depend on every pixel."""
    return images.reshape(len(images), -1) @ state


def test_normalised_images_are_the_same_data_in_training_and_evaluation(key):
    normalised = changed(image=np.asarray(normalize(DATA.image)))
    state = jax.random.normal(key, (DATA.image[0].size, 3))
    raw, ready = (evaluate(linear, state, data) for data in (DATA, normalised))
    assert_close(raw, ready, tolerance=1e-6)
    assert raw.loss > 0
    index, weight = jnp.arange(6).reshape(2, 3), jnp.ones((2, 3))
    batches = [
        take(Examples(jnp.asarray(x.image), jnp.asarray(x.label)), index, weight)
        for x in (DATA, normalised)
    ]
    assert_close(*batches, tolerance=1e-6)


def test_images_of_another_dtype_are_not_guessed_at():
    with pytest.raises(ValueError, match="image of dtype float16: expected uint8, or"):
        normalize(jnp.zeros(3, jnp.float16))


def test_a_model_that_tells_fewer_classes_apart_is_refused(key):
    state = jnp.zeros((DATA.image[0].size, 2))
    with pytest.raises(ValueError, match="3 classes: expected at most 2"):
        evaluate(linear, state, DATA)


# Partitions


OWNERS = tiny_partition(DATA)


def with_entry(value):
    index = OWNERS.index.copy()
    index[1, 2] = value
    return OWNERS._replace(index=index)


@pytest.mark.parametrize(
    "function", [draw_minibatches, partial(draw_epochs, epochs=1)], ids=["one", "all"]
)
@pytest.mark.parametrize(
    "owners, named",
    [
        (with_entry(12), "partition.index=12: expected 0 to 11, one of 12 examples"),
        (with_entry(-2), "partition.index=-2: expected 0 to 11"),
        (with_entry(-1), "partition.count=3 of client 1: expected as many examples"),
        (OWNERS._replace(count=OWNERS.count + 1), "partition.count=4 of client 0"),
        (OWNERS._replace(count=OWNERS.count[1:]), r"index \(4, 3\) and count \(3,\)"),
        (Partition(OWNERS.index[0], OWNERS.count), r"index \(3,\) and count \(4,\)"),
        (jax.tree.map(jnp.asarray, with_entry(12)), "partition.index=12"),
    ],
)
def test_a_partition_of_other_examples_is_refused(key, function, owners, named):
    numbers = {"round": 0, "period": 0, "cohort_size": 2, "batch_size": 2}
    with pytest.raises(ValueError, match=named):
        function(key, DATA, owners, **numbers)


@pytest.mark.parametrize("name, value", [("batch_size", 0), ("cohort_size", 5)])
def test_a_draw_of_no_size_is_refused(key, name, value):
    sizes = {"cohort_size": 2, "batch_size": 2, name: value}
    with pytest.raises(ValueError, match=f"{name}={value}: expected"):
        draw_minibatches(key, DATA, OWNERS, round=0, period=0, **sizes)


def test_what_is_traced_is_not_looked_at(key):
    sizes = {"round": 0, "period": 0, "cohort_size": 2, "batch_size": 2}
    draw = jax.jit(lambda data, owners: draw_minibatches(key, data, owners, **sizes))
    assert draw(DATA, OWNERS).index.shape == (2, 1, 2)
    assert isinstance(DATA, Dataset)
