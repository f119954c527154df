"""Learning rates over the rounds, weight decay, and augmentation within methods."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fedjax_sl.config_base import optimizer_named
from fedjax_sl.federation import clients, devices
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq import client as fedlpq_client
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl import state as fedsl_state
from fedjax_sl.simulation import run_some_rounds, start
from fedjax_sl.training import TrainingConfig, batch_of, rate_factor
from tests.worlds import (
    CLASSES,
    SHAPE,
    assert_close,
    tiny_dataset,
    tiny_model,
    tiny_partition,
)


def factors(rounds, **options):
    config = TrainingConfig(**options)
    return np.array([rate_factor(config, jnp.int32(t)) for t in range(rounds)])


def test_rates_rise_then_fall_to_zero():
    got = factors(30, warmup_rounds=4, cosine_rounds=20)
    np.testing.assert_allclose(got[:5], [0.25, 0.5, 0.75, 1.0, 1.0], atol=1e-6)
    assert (np.diff(got[4:21]) < 0).all()
    assert got[12] == pytest.approx(0.5)  # half-way from 4 to 20
    np.testing.assert_allclose(got[20:], 0, atol=1e-7)


def test_a_warm_up_ends_within_the_cosine():
    with pytest.raises(ValueError, match="cosine_rounds=3: expected more than"):
        TrainingConfig(warmup_rounds=np.int64(9), cosine_rounds=np.int64(3))


def test_without_options_rates_are_constant():
    assert (factors(5) == 1).all()
    np.testing.assert_allclose(factors(5, warmup_rounds=2), [0.5, 1, 1, 1, 1])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_kernels_decay_and_biases_do_not(name):
    """A step takes away rate x lambda of a kernel beside what it took without."""
    # A bias of attention is [heads, units].
    heads = {"bias": jnp.ones((2, 3))}
    params = {"kernel": jnp.ones((2, 3)), "scale": jnp.ones(3), "query": heads}
    grad = jax.tree.map(lambda x: 0.3 * x, params)

    def stepped(decay):
        optimizer = optimizer_named(name, 0.9, decay)(0.1)
        updates, _ = optimizer.update(grad, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    plain, decayed = stepped(None), stepped(0.5)
    gap = jax.tree.map(jnp.subtract, plain, decayed)
    np.testing.assert_allclose(gap["kernel"], 0.1 * 0.5, rtol=1e-5)
    assert not gap["query"]["bias"].any() and not gap["scale"].any()


RECIPE = dict(
    crop_pixels=2,
    flip=True,
    weight_decay=0.05,
    warmup_rounds=2,
    cosine_rounds=8,
    optimizer="sgd",
    learning_rate=0.05,
    bits=32,  # a level drawn the other way would hide what differs
)


class Dense(nn.Module):
    """One dense layer."""

    @nn.compact
    def __call__(self, x, train, weight=None):
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


def of_fedsl(over_clients, **options):
    config = FedSLConfig(cohort_size=3, interval=2, dropout_rate=0.0, **options)
    return fedsl(tiny_model(), config, over_clients=over_clients)


def of_fedlpq(over_clients, **options):
    config = FedLPQConfig(cohort_size=3, local_epochs=2, **options)
    return fedlpq(
        Dense(), config, num_clients=4, input_shape=SHAPE, over_clients=over_clients
    )


METHODS = {"fedsl": of_fedsl, "fedlpq": of_fedlpq}


def models_after(algorithm, key, segments):
    """The models after segments of so many rounds, all by one program."""
    data = tiny_dataset()

    @jax.jit
    def run(state, first, count):
        return run_some_rounds(
            *(algorithm, state, data, tiny_partition(data), key),
            first=first,
            count=count,
            most=4,
            batch_size=5,
        )[0]

    state, first = start(algorithm, key), jnp.int32(0)
    for rounds in segments:
        state, first = run(state, first, jnp.int32(rounds)), first + rounds
    # FedSL's anchor follows a period later.
    return [getattr(state, name) for name in algorithm.models if name != "anchor"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_recipe_is_bit_for_bit_the_same(key, method):
    algorithm = METHODS[method](clients.scan, **RECIPE)
    whole = models_after(algorithm, key, [2, 2])
    parts = models_after(algorithm, key, [1, 1, 1, 1])
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_mappings_agree_on_a_recipe(key, method):
    make = METHODS[method]
    usual = models_after(make(clients.scan, **RECIPE), key, [3])
    for over in (clients.vmap, devices.sharded(devices.mesh(2), clients.scan)):
        assert_close(models_after(make(over, **RECIPE), key, [3]), usual)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("left_out", ["crop_pixels", "flip", "weight_decay"])
def test_each_part_of_a_recipe_changes_the_model(key, method, left_out):
    make, off = METHODS[method], {"crop_pixels": 0, "flip": False, "weight_decay": None}
    usual = models_after(make(clients.scan, **RECIPE), key, [1])
    without = {**RECIPE, left_out: off[left_out]}
    other = models_after(make(clients.scan, **without), key, [1])
    same = jax.tree.map(lambda x, y: bool((x == y).all()), usual, other)
    assert not all(jax.tree.leaves(same))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_at_a_rate_of_zero_nothing_moves(key, method):
    """In its last round a cosine has come to 0, and decay goes with the rate."""
    ended = {**RECIPE, "warmup_rounds": 0, "cosine_rounds": 1}
    algorithm = METHODS[method](clients.scan, **ended)
    after = [models_after(algorithm, key, [rounds]) for rounds in (2, 4)]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), *after)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_no_two_views_share_a_draw(key, method, monkeypatch):
    """Of an example by a client, in any round and epoch: its key and its number."""
    views, module = [], {"fedsl": fedsl_state, "fedlpq": fedlpq_client}[method]

    def recorded(config, key, examples, index, *, weight):
        def note(data, index, weight):
            for example in index[weight > 0]:
                views.append((data.tobytes(), int(example)))

        jax.debug.callback(note, jax.random.key_data(key), index, weight)
        return batch_of(config, key, examples, index, weight=weight)

    monkeypatch.setattr(module, "batch_of", recorded)
    models_after(METHODS[method](clients.scan, **RECIPE), key, [2])
    jax.effects_barrier()
    # Two rounds of three clients, with a batch of 5 or 2 epochs of 12 examples each.
    assert len(set(views)) == len(views) == {"fedsl": 30, "fedlpq": 144}[method]
