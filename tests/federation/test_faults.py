"""Clients that fail, and clients that send nonsense, take nothing from the others."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.algorithm import Examples
from fedjax_sl.federation.faults import (
    FAULTS,
    client_dropout,
    message_corruption,
    skip_empty_rounds,
    valid,
)
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.traffic import traffic
from tests.worlds import (
    SHAPE,
    TwoBlocks,
    assert_close,
    assert_equal,
    tiny_cohort,
    tiny_dataset,
    tiny_model,
    tiny_partition,
)


SPLIT = FedSLConfig(cohort_size=4, interval=1, prune_ratio=0.5, prune_end=0)
LAYERS = FedLPQConfig(cohort_size=4, bits=6, learning_rate=0.01)


def split():
    return fedsl(tiny_model(), SPLIT)


def layers(**change):
    return fedlpq(
        TwoBlocks(),
        dataclasses.replace(LAYERS, **change),
        num_clients=4,
        input_shape=SHAPE,
    )


def exact():
    """Not quantised: another program's last bit may take an entry a level further."""
    return layers(bits=32)


@cache
def programs_of(make):
    """The algorithm, and its round compiled once for all tests."""
    algorithm = make()
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.round)


def models_of(algorithm, state):
    return {name: getattr(state, name) for name in algorithm.models}


def with_bad_images(cohort, client, value):
    """The cohort with one client's images all of one value."""
    bad = cohort.index[client].reshape(-1)
    image = cohort.examples.image.at[bad].set(value)
    return cohort._replace(examples=Examples(image, cohort.examples.label))


def without(cohort, client):
    """The cohort with one client that has no part."""
    here = jnp.arange(len(cohort.client_id)) != client
    return cohort._replace(
        weight=cohort.weight * here[:, None, None],
        num_examples=cohort.num_examples * here,
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [split, layers])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonsense_is_as_if_its_client_were_not_there(key, make, value):
    (algorithm, init, round), cohort = programs_of(make), tiny_cohort(key)
    state = init(key)
    bad, metrics = round(state, with_bad_images(cohort, 1, value), key)
    absent, _ = round(state, without(cohort, 1), key)
    assert metrics.rejected.tolist() == [False, True, False, False]
    assert not np.isfinite(metrics.loss[1])
    assert np.isfinite(np.delete(metrics.loss, 1)).all()
    models, others = models_of(algorithm, bad), models_of(algorithm, absent)
    for name in ("head", "weights"):
        models.pop(name, None), others.pop(name, None)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(models))
    assert_close(models, others)
    _, after = round(bad, cohort, jax.random.fold_in(key, 1))
    assert not after.rejected.any() and np.isfinite(after.loss).all()


@pytest.mark.slow
def test_an_update_too_large_is_left_out(key):
    algorithm = layers(max_update_norm=1e-9)
    state = programs_of(layers)[1](key)
    new, metrics = jax.jit(algorithm.round)(state, tiny_cohort(key), key)
    assert metrics.rejected.all()
    assert_equal(models_of(algorithm, new), models_of(algorithm, state))


def test_what_is_sound():
    assert valid({"a": jnp.ones(3), "b": jnp.zeros(())})
    assert not valid({"a": jnp.ones(3), "b": jnp.array(jnp.nan)})
    assert not valid({"a": jnp.array([1.0, -jnp.inf])})
    tree = {"a": jnp.full(9, 1.0), "b": jnp.full(16, 1.0)}
    assert valid(tree, 5.01) and not valid(tree, 4.99)
    assert not valid({"a": jnp.array(jnp.nan)}, 5.0)


@cache
def draw_of(fault, *how):
    """The draw of cohorts with a fault, compiled once."""
    draw = fault(programs_of(split)[0], *how).draw
    data = tiny_dataset()
    given = partial(draw, batch_size=3)
    return jax.jit(
        lambda key, **numbers: given(key, data, tiny_partition(data), **numbers)
    )


def drawn(key, probability, period=0, round=0):
    return draw_of(client_dropout, probability)(key, round=round, period=period)


def test_who_fails_is_drawn_by_client_and_period(key):
    answers = np.array([drawn(key, 0.3, period=n).num_examples > 0 for n in range(250)])
    share = answers.mean()
    assert abs(share - 0.7) < 5 * np.sqrt(0.3 * 0.7 / answers.size)
    assert (answers.any(axis=1) & ~answers.all(axis=1)).mean() > 0.5
    first, later = (drawn(key, 0.5, period=3, round=n) for n in (6, 7))
    assert_equal(first.num_examples, later.num_examples)
    assert (first.index != later.index).any()
    assert (drawn(key, 0.0).num_examples > 0).all()


@pytest.mark.parametrize("make", [split, layers])
def test_those_who_fail_cost_nothing_and_change_nothing(key, make):
    """What the others come to does not depend on what they own."""
    (algorithm, init, round), cohort = programs_of(make), tiny_cohort(key)
    state = init(key)
    one, metrics = round(state, without(cohort, 2), key)
    other = with_bad_images(cohort, 2, 3.0)
    two, _ = round(state, without(other, 2), key)
    assert_equal(
        models_of(algorithm, one)[algorithm.models[0]],
        models_of(algorithm, two)[algorithm.models[0]],
    )
    sent = traffic(jax.tree.map(lambda x: x[None], metrics.links))
    assert (sent.uplink[0, 2], sent.downlink[0, 2]) == (0, 0)
    assert (np.delete(sent.uplink[0], 2) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [split, layers])
def test_where_nobody_answers_all_stays(key, make):
    algorithm, cohort = skip_empty_rounds(make()), tiny_cohort(key)
    round = jax.jit(algorithm.round)
    state, _ = round(programs_of(make)[1](key), cohort, key)
    nobody = cohort._replace(
        weight=0 * cohort.weight, num_examples=0 * cohort.num_examples
    )
    new, metrics = round(state, nobody, jax.random.fold_in(key, 1))
    assert new.round == state.round + 1
    assert_equal(new._replace(round=0), state._replace(round=0))
    sent = traffic(jax.tree.map(lambda x: x[None], metrics.links))
    assert not sent.uplink.any() and not sent.downlink.any()
    image = cohort.examples.image[:2]
    assert_equal(algorithm.predict(new, image), algorithm.predict(state, image))


def with_fault(cohort, client, fault):
    """The cohort with one client whose messages are corrupted."""
    here = jnp.arange(len(cohort.client_id)) == client
    return cohort._replace(fault=jnp.where(here, fault, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("make", [split, exact])
def test_a_message_without_fault_is_as_it_was(key, make):
    (_, init, round), cohort = programs_of(make), tiny_cohort(key)
    plain, same = (
        round(init(key), c, key) for c in (cohort, with_fault(cohort, 0, 1.0))
    )
    assert_close(plain, same)


@pytest.mark.parametrize("make", [split, exact])
@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_what_cannot_be_used_is_as_if_it_were_not_sent(key, make, kind):
    (algorithm, init, round), cohort = programs_of(make), tiny_cohort(key)
    state = init(key)
    bad, metrics = round(state, with_fault(cohort, 2, FAULTS[kind]), key)
    absent, _ = round(state, without(cohort, 2), key)
    assert metrics.rejected.tolist() == [False, False, True, False]
    name = algorithm.models[0]
    assert_close(models_of(algorithm, bad)[name], models_of(algorithm, absent)[name])
    sent = traffic(jax.tree.map(lambda x: x[None], metrics.links))
    assert (sent.uplink > 0).all()
    _, after = round(bad, with_fault(cohort, 0, 1.0), key)
    assert not after.rejected.any() and np.isfinite(after.loss).all()


def whole():
    return layers(keep_probability=1.0)


@pytest.mark.slow
def test_a_flipped_update_moves_the_mean_the_other_way(key):
    """(others + u) / 4 and (others - u) / 4, where others / 3 is without it."""
    (_, init, round), cohort = programs_of(whole), tiny_cohort(key)
    state = init(key)
    before = state.variables["params"]

    def moved(cohort):
        new, metrics = round(state, cohort, key)
        assert not metrics.rejected.any()
        return jax.tree.map(jnp.subtract, new.variables["params"], before)

    plain, flipped = (moved(with_fault(cohort, 2, f)) for f in (1.0, FAULTS["flip"]))
    both = jax.tree.map(jnp.add, plain, flipped)
    others = jax.tree.map(
        lambda x: 1.5 * x, moved(without(with_fault(cohort, 2, 1.0), 2))
    )
    assert_close(both, others)
    huge = moved(with_fault(cohort, 2, FAULTS["huge"]))
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(huge)) > 100


def relay(key, **change):
    """A round of a relay whose third visitor may be out of order."""
    config = dataclasses.replace(SPLIT, client_update="relay", **change)
    algorithm = fedsl(tiny_model(), config)
    return algorithm, jax.jit(algorithm.init)(key), jax.jit(algorithm.round)


@pytest.mark.slow
def test_in_a_relay_the_next_has_the_last_model_that_can_be_used(key):
    (_, state, round), cohort = relay(key), tiny_cohort(key)
    for fault in (np.nan, np.inf):
        bad, metrics = round(state, with_fault(cohort, 1, fault), key)
        absent, _ = round(state, without(cohort, 1), key)
        assert metrics.rejected.tolist() == [False, True, False, False]
        assert_close((bad.client, bad.server), (absent.client, absent.server))
        _, after = round(bad, with_fault(cohort, 0, 1.0), key)
        assert not after.rejected.any() and np.isfinite(after.loss).all()
    broken, metrics = round(state, with_bad_images(cohort, 3, np.nan), key)
    assert metrics.rejected.tolist() == [False, False, False, True]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(broken))


def test_who_is_corrupted_is_drawn_by_client_and_period(key):
    def faults(probability, kind, period):
        cohort = draw_of(message_corruption, probability, kind)(
            key, round=0, period=period
        )
        return np.array(cohort.fault)

    found = np.array([faults(0.3, "flip", n) for n in range(100)])
    assert set(found.ravel()) == {-1.0, 1.0}
    share = (found == -1).mean()
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / found.size)
    assert_equal(faults(0.3, "flip", 5), found[5])
    assert (faults(0.0, "nan", 0) == 1).all() and np.isnan(faults(1.0, "nan", 0)).all()
    answers = [drawn(key, 0.3, period=n).num_examples > 0 for n in range(100)]
    assert (np.array(answers) != (found == 1)).any()  # apart from who fails
