from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.data import (
    Dataset,
    Partition,
    draw_clients,
    draw_epochs,
    draw_minibatches,
    iid,
    normalize,
)
from tests.worlds import batches_of


COUNTS = (10, 7, 2, 3, 0, 10)
"""Examples of each client; with B = 3: remainders, too few, just enough, none."""

NUM_CLIENTS, BATCH = len(COUNTS), 3


def world(width=10):
    """A data set whose images and labels both tell which example it is."""
    size = sum(COUNTS) + 5
    number = np.arange(size)
    image = np.broadcast_to(number[:, None, None, None], (size, 2, 2, 1))
    names = tuple(map(str, number))
    dataset = Dataset(
        image=image.astype(np.uint8),
        label=number.astype(np.int32),
        name="numbers",
        class_names=names,
    )
    index = np.full((NUM_CLIENTS, width), -1, np.int32)
    start = 5  # examples that belong to nobody
    for row, count in zip(index, COUNTS, strict=True):
        row[:count] = np.arange(start, start + count)
        start += count
    return dataset, Partition(index, np.array(COUNTS, np.int32))


def owned(client):
    _, partition = world()
    return set(partition.index[client, : COUNTS[client]].tolist())


def draw(function, key, round=0, period=0, cohort_size=NUM_CLIENTS, width=10, **sizes):
    """A draw as a program with traced numbers, its results on the host."""
    dataset, partition = jax.tree.map(jnp.asarray, world(width))
    cohort = compiled(function, cohort_size, **sizes)(
        key, dataset, partition, round=round, period=period
    )
    return jax.device_get(cohort)


@cache
def compiled(function, cohort_size, **sizes):
    sizes = {"batch_size": BATCH, **sizes}
    return jax.jit(partial(function, cohort_size=cohort_size, **sizes))


def real(batches, slot):
    """The examples of one client's batches, padding left out, `[S]` lists."""
    labels, weights = batches.label[slot], batches.weight[slot]
    return [step[keep > 0].tolist() for step, keep in zip(labels, weights, strict=True)]


# Clients


@pytest.mark.parametrize("cohort_size", [1, 4, 9])
def test_clients_are_drawn_without_replacement(key, cohort_size):
    draw = partial(draw_clients, num_clients=9, cohort_size=cohort_size)
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(key, 500)))
    assert drawn.dtype == np.int32 and drawn.min() >= 0 and drawn.max() < 9
    assert all(len(set(row)) == cohort_size for row in drawn)


def test_everyone_takes_part_in_order(key):
    drawn = draw_clients(key, num_clients=6, cohort_size=6)
    np.testing.assert_array_equal(drawn, np.arange(6))


def test_clients_are_equally_likely(key):
    draws, num_clients, cohort_size = 4000, 5, 2
    draw = partial(draw_clients, num_clients=num_clients, cohort_size=cohort_size)
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(key, draws)))
    p = cohort_size / num_clients
    counts = np.bincount(drawn.ravel(), minlength=num_clients)
    assert (abs(counts - draws * p) < 5 * (draws * p * (1 - p)) ** 0.5).all()


@pytest.mark.parametrize("cohort_size", [0, 6])
def test_cohorts_that_cannot_be_drawn(key, cohort_size):
    with pytest.raises(ValueError, match=f"cohort_size={cohort_size}: expected 1 to 5"):
        draw_clients(key, num_clients=5, cohort_size=cohort_size)


def test_clients_change_with_the_period_alone(key):
    drawn = [
        tuple(
            draw(draw_minibatches, key, round, period=period, cohort_size=2).client_id
        )
        for period in range(6)
        for round in (0, 5)
    ]
    assert drawn[0::2] == drawn[1::2]
    assert len(set(drawn)) > 1


# Mini-batches


@pytest.mark.parametrize("client", range(NUM_CLIENTS))
def test_an_epoch_of_minibatches_repeats_nothing(key, client):
    batches = max(COUNTS[client] // BATCH, 1)
    full = min(COUNTS[client], BATCH)
    orders = []
    for epoch in range(4):
        seen = []
        for slot in range(batches):
            cohort = draw(draw_minibatches, key, epoch * batches + slot)
            [step] = real(batches_of(cohort), client)
            assert len(step) == full
            seen += step
        assert len(set(seen)) == len(seen) and set(seen) <= owned(client)
        orders.append(tuple(seen))
    if COUNTS[client] > BATCH:
        assert len(set(orders)) == 4
        assert set().union(*orders) == owned(client)


def test_shapes_and_types(key):
    minibatches = draw(draw_minibatches, key)
    chex.assert_shape(batches_of(minibatches).image, (NUM_CLIENTS, 1, BATCH, 2, 2, 1))
    epochs = draw(draw_epochs, key, epochs=2)
    chex.assert_shape(batches_of(epochs).image, (NUM_CLIENTS, 8, BATCH, 2, 2, 1))
    for cohort in (minibatches, epochs):
        chex.assert_equal_shape_prefix(list(batches_of(cohort)), 3)
        assert (
            batches_of(cohort).image.dtype
            == batches_of(cohort).weight.dtype
            == np.float32
        )
        assert batches_of(cohort).label.dtype == cohort.client_id.dtype == np.int32
        np.testing.assert_array_equal(cohort.num_examples, COUNTS)


@pytest.mark.parametrize(
    "function, sizes", [(draw_minibatches, {}), (draw_epochs, {"epochs": 2})]
)
def test_images_belong_to_their_labels_and_padding_to_its_client(key, function, sizes):
    for round in range(3):
        batches = batches_of(draw(function, key, round, **sizes))
        expected = (batches.label / 255 - 0.5) / 0.5
        np.testing.assert_allclose(
            batches.image,
            np.broadcast_to(expected[..., None, None, None], batches.image.shape),
            atol=1e-6,
        )
        assert set(np.unique(batches.weight)) <= {0, 1}
        for client, count in enumerate(COUNTS):
            if count:
                assert set(batches.label[client].ravel().tolist()) <= owned(client)
            else:
                assert not batches.weight[client].any()


@pytest.mark.parametrize(
    "function, sizes", [(draw_minibatches, {}), (draw_epochs, {"epochs": 2})]
)
def test_batches_do_not_depend_on_who_else_takes_part(key, function, sizes):
    everyone = draw(function, key, 4, **sizes)
    places = set()
    for period in range(4):
        cohort = draw(function, key, 4, period=period, cohort_size=2, **sizes)
        for slot, client in enumerate(cohort.client_id):
            places.add((slot, int(client)))
            mine = jax.tree.map(lambda x, slot=slot: x[slot], batches_of(cohort))
            same = jax.tree.map(lambda x, i=client: x[i], batches_of(everyone))
            chex.assert_trees_all_equal(mine, same)
    assert any(slot != client for slot, client in places)


def by_turns(key, period):
    """Three of the clients, others in each period."""
    return (3 * period + jnp.arange(3)) % NUM_CLIENTS


@pytest.mark.parametrize(
    ("function", "sizes"), [(draw_minibatches, {}), (draw_epochs, {"epochs": 2})]
)
def test_clients_may_be_chosen(key, function, sizes):
    """By the period; each has the batches that it has in every other cohort."""
    everyone = draw(function, key, round=4, period=1, **sizes)
    for period in (0, 1, 3):
        chosen = draw(function, key, 4, period, cohort_size=3, choose=by_turns, **sizes)
        ids = by_turns(None, period)
        np.testing.assert_array_equal(chosen.client_id, ids)
        for name in ("index", "weight", "num_examples"):
            theirs = getattr(everyone, name)[np.asarray(ids)]
            np.testing.assert_array_equal(getattr(chosen, name), theirs)
    with pytest.raises(ValueError, match=r"of shape \(3,\): expected \[2\]"):
        draw(function, key, cohort_size=2, choose=by_turns, **sizes)


def test_batches_do_not_depend_on_the_room_for_others(key):
    narrow = draw(draw_minibatches, key, 2)
    wide = draw(draw_minibatches, key, 2, width=40)
    chex.assert_trees_all_equal(narrow, wide)


def test_the_key_decides(key):
    first, again = (draw(draw_epochs, key, epochs=1) for _ in range(2))
    other = draw(draw_epochs, jax.random.key(1), epochs=1)
    chex.assert_trees_all_equal(first, again)
    assert (batches_of(first).label != batches_of(other).label).any()


def test_clients_have_orders_of_their_own(key):
    places = {client: sorted(owned(client)).index for client in (0, 5)}
    orders = [
        [
            tuple(
                map(
                    place,
                    real(batches_of(draw(draw_minibatches, key, round)), client)[0],
                )
            )
            for round in range(6)
        ]
        for client, place in places.items()
    ]
    assert orders[0] != orders[1]


def test_rounds_and_periods_do_not_compile_again(key):
    dataset, partition = jax.tree.map(jnp.asarray, world())

    @jax.jit
    @chex.assert_max_traces(n=1)
    def function(round, period):
        numbers = {"round": round, "period": period}
        sizes = {"cohort_size": 2, "batch_size": BATCH}
        return draw_minibatches(key, dataset, partition, **numbers, **sizes)

    for number in range(3):
        function(number, number // 2)


# Epochs


def test_each_epoch_has_every_example_once_and_padding_last(key):
    epochs, steps = 3, 4
    batches = batches_of(draw(draw_epochs, key, epochs=epochs))
    assert batches.label.shape == (NUM_CLIENTS, epochs * steps, BATCH)
    for client, count in enumerate(COUNTS):
        weight = batches.weight[client].reshape(epochs, -1)
        assert (weight == (np.arange(steps * BATCH) < count)).all()
        for epoch in range(epochs):
            ours = real(batches, client)[epoch * steps : (epoch + 1) * steps]
            assert sorted(sum(ours, [])) == sorted(owned(client))


def test_epochs_differ_within_and_between_rounds(key):
    orders = []
    for round in range(3):
        ours = real(batches_of(draw(draw_epochs, key, round, epochs=2)), 0)
        orders += [tuple(sum(ours[:4], [])), tuple(sum(ours[4:], []))]
    assert len(set(orders)) == len(orders)


def test_every_order_is_equally_likely(key):
    epochs, count = 1200, COUNTS[3]
    cohort = draw(draw_epochs, key, epochs=epochs, width=10, batch_size=10)
    labels = cohort.examples.label[cohort.index]
    orders, times = np.unique(labels[3, :, :count], axis=0, return_counts=True)
    p = 1 / 6
    assert len(orders) == 6
    assert (abs(times - epochs * p) < 5 * (epochs * p * (1 - p)) ** 0.5).all()


def test_normalize():
    image = jnp.array([0, 51, 255], jnp.uint8)
    assert normalize(image).dtype == jnp.float32
    np.testing.assert_allclose(normalize(image), [-1, -0.6, 1], atol=1e-6)


# On real images


@pytest.mark.slow
def test_cifar10_epoch(cifar10, key):
    test = cifar10("test")
    partition = iid(np.random.default_rng(0), test.label, 200)
    sizes = {"cohort_size": 3, "batch_size": 16, "epochs": 1}
    draw = jax.jit(partial(draw_epochs, **sizes))
    cohort = draw(key, test, partition, round=0, period=0)
    for slot, client in enumerate(np.asarray(cohort.client_id)):
        mine = partition.index[client][: partition.count[client]]
        kept = np.asarray(batches_of(cohort).weight[slot]) > 0
        pixels = np.asarray(batches_of(cohort).image[slot])[kept]
        pixels = np.round((pixels * 0.5 + 0.5) * 255).astype(np.uint8)
        assert sorted(map(bytes, pixels)) == sorted(map(bytes, test.image[mine]))
