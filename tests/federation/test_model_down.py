"""The compressed model down: what all clients receive, its bits, what is left out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.layers import to_units
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import total
from fedjax_sl.federation.model_down import first_residual, send_down
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.estimates.traffic import most as most_of_fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.estimates.traffic import expected, most
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY, bits_of
from tests.fedlpq.test_fedlpq import (
    BATCH,
    EXACT,
    SHAPE,
    STEPS,
    N,
    TwoBlocks,
    cohort_of,
    networks,
)
from tests.worlds import assert_close, assert_equal, played, tiny_cohort, tiny_model


COARSE = CompressorConfig(kind="qsgd", bits=3)
FEEDBACK = dataclasses.replace(COARSE, feedback="error")
PLAIN = FedSLConfig(
    cohort_size=4, interval=2, prune_ratio=0.0, bits=32, dropout_rate=0.0, momentum=0.0
)
STILL = dataclasses.replace(PLAIN, learning_rate=0.0)


def tree_of(key):
    return {"a": jax.random.normal(key, (6, 5)), "b": 0.3 + jnp.arange(4.0)}


@pytest.mark.parametrize("name", ["qsgd-rice", "uniform", "natural", "eden"])
def test_every_leaf_is_a_message(name, key):
    models, tree = FAMILY[name], tree_of(key)
    down = send_down(models, key, tree, residual=None)
    how, length = models.compressor(), 0
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        own, mask = jax.random.fold_in(key, number), jnp.ones(leaf.shape, bool)
        payload, _ = how.compress(own, leaf, mask, ())
        length += how.wire.encode(payload, mask).num_bits
        rebuilt = how.decompress(own, payload, mask)
        np.testing.assert_array_equal(jax.tree.leaves(down.tree)[number], rebuilt)
    assert bits_of(total(down.messages)) == length and down.residual is None


def test_what_is_left_out_goes_into_the_next_message(key):
    tree = tree_of(key)
    residual, whole = first_residual(FEEDBACK, tree), jax.tree.map(jnp.zeros_like, tree)
    for number in range(4):
        own = jax.random.fold_in(key, number)
        down = send_down(FEEDBACK, own, tree, residual=residual)
        whole = jax.tree.map(jnp.add, whole, down.tree)
        residual = down.residual
    left = [state.kept for state in residual]
    sums = jax.tree.map(lambda total, x: 4 * x - total, whole, tree)
    assert_close(jax.tree.leaves(sums), left, 1e-5)
    assert all(leaf.any() for leaf in left)


@pytest.mark.slow
def test_fedsl_goes_on_from_what_clients_receive(key):
    """At a learning rate of 0 the models are those received."""
    state, metrics = played(key, dataclasses.replace(STILL, models=COARSE), rounds=1)
    for leaf in jax.tree.leaves(state.client["params"]):
        for one in leaf[1:]:
            np.testing.assert_array_equal(one, leaf[0])
        levels = np.unique(np.asarray(leaf[0])) / max(np.abs(leaf[0]).max(), 1e-9)
        assert np.allclose(levels * 3, np.round(levels * 3), atol=1e-5)
    assert_close(state.anchor, jax.tree.map(lambda x: x[0], state.client["params"]), 0)
    plain, _ = played(key, STILL, rounds=1)
    with pytest.raises(AssertionError):
        assert_close(state.anchor, plain.anchor, 1e-3)
    assert metrics[0].links.model_down.bits.tolist() == [3] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{}, {"prune_ratio": 0.4, "average_over": "keepers"}]
)
def test_everything_sent_is_the_plain_scheme(change, key):
    everything = CompressorConfig(kind="top_k", keep=1.0)
    usual = dataclasses.replace(PLAIN, **change)
    plain, counted = played(key, usual, rounds=3)
    found, ours = played(key, dataclasses.replace(usual, models=everything), rounds=3)
    assert_close(plain.client, found.client, 1e-6)
    for one, other in zip(counted, ours, strict=True):
        assert_equal(one.links.model_down.entries, other.links.model_down.entries)


@pytest.mark.slow
def test_a_model_and_its_residual_are_the_model_before(key):
    config = dataclasses.replace(STILL, models=FEEDBACK)
    before, _ = played(key, STILL, rounds=1)
    after, _ = played(key, config, rounds=1)
    again, _ = played(key, config, rounds=3)
    for exact, received, left, latest, rest in zip(
        *(jax.tree.leaves(tree) for tree in (before.anchor, after.anchor)),
        after.model_residual,
        jax.tree.leaves(again.anchor),
        again.model_residual,
        strict=True,
    ):
        np.testing.assert_allclose(received + left.kept, exact, atol=1e-6)
        np.testing.assert_allclose(latest + rest.kept, exact, atol=1e-6)


@pytest.mark.slow
def test_who_is_absent_loads_nothing_and_nobody_changes_nothing(key):
    made = fedsl(tiny_model(), dataclasses.replace(STILL, models=FEEDBACK))
    state, cohort = jax.jit(made.init)(key), tiny_cohort(key)
    step = jax.jit(made.round)
    absent = cohort._replace(num_examples=cohort.num_examples.at[2].set(0))
    _, metrics = step(state, absent, key)
    down = traffic(metrics.links).model_down
    assert down[2] == 0 and (down[[0, 1, 3]] > 0).all()
    nobody = cohort._replace(num_examples=jnp.zeros_like(cohort.num_examples))
    after, metrics = step(state, nobody, key)
    assert_equal(after.anchor, state.anchor)
    assert_equal(after.model_residual, state.model_residual)
    assert not traffic(metrics.links).model_down.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qsgd-rice", "top_k-qsgd", "eden"])
def test_no_round_takes_more_than_the_most(name):
    config = dataclasses.replace(PLAIN, cohort_size=2, models=FAMILY[name])
    kinds = expected(tiny_model(), config, batch_size=5).traffic.model_down
    bound = most(tiny_model(), config, np.array([5, 5]), batch_size=5)
    assert (kinds <= bound.traffic.model_down).all() and (kinds[2:] > 0).all()


def fedlpq_round(config, key, counts=None):
    made = fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)
    state = jax.jit(made.init)(key)
    return state, *jax.jit(made.round)(state, cohort_of(key, counts=counts), key)


@pytest.mark.slow
@pytest.mark.parametrize("models", [COARSE, FEEDBACK])
def test_fedlpq_goes_on_from_what_clients_receive(models, key):
    still = dataclasses.replace(EXACT, learning_rate=0.0, models=models)
    before, after, metrics = fedlpq_round(still, key)
    exact, received = (
        to_units(state.variables["params"], by="module") for state in (before, after)
    )
    for number, name in enumerate(sorted(exact)):
        level = np.asarray(received[name]) / np.abs(exact[name]).max() * 3
        np.testing.assert_allclose(level, np.round(level), atol=1e-5)
        if models is FEEDBACK:
            left = after.model_residual[number].kept
            np.testing.assert_allclose(received[name] + left, exact[name], atol=1e-6)
    down = metrics.links.model_down
    sizes = sum(layer.size for layer in exact.values())
    assert down.entries.tolist() == [sizes] * N and down.bits.tolist() == [3] * N
    whole = np.full(N, STEPS * BATCH)
    bound = most_of_fedlpq(TwoBlocks(), SHAPE, still, whole).traffic.model_down
    assert (traffic(metrics.links).model_down <= bound).all()


@pytest.mark.slow
@pytest.mark.parametrize("models", [COARSE, FEEDBACK])
def test_a_layer_of_fedlpq_that_nobody_loads_stays(models, key):
    config = dataclasses.replace(EXACT, learning_rate=0.0, models=models)
    made = fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)
    state = jax.jit(made.init)(key)
    nobody = cohort_of(key, counts=[0] * N)
    after, metrics = jax.jit(made.round)(state, nobody, key)
    assert_equal(after.variables["params"], state.variables["params"])
    assert_equal(after.model_residual, state.model_residual)
    assert not traffic(metrics.links).model_down.any()


@pytest.mark.slow
def test_layers_of_larger_networks_than_any_in_the_cohort_stay(key):
    """They are not sent, so that they are not compressed."""
    config = dataclasses.replace(
        EXACT, cohort_size=1, learning_rate=0.0, models=COARSE, preference="u"
    )
    made = fedlpq(networks("u"), config, num_clients=N)
    state = jax.jit(made.init)(key)
    smallest = int(np.argmin(np.asarray(state.complexity)))
    cohort = cohort_of(key, ids=(smallest,))
    image = jnp.zeros((STEPS * BATCH, 32, 32, 3))
    cohort = cohort._replace(examples=cohort.examples._replace(image=image))
    after, _ = jax.jit(made.round)(state, cohort, key)
    before = to_units(state.variables["params"], by="module")
    found = to_units(after.variables["params"], by="module")
    same = {name: bool((before[name] == found[name]).all()) for name in before}
    weights = [name for name in same if not name.endswith("bn")]
    assert any(same[name] for name in weights)
    assert not all(same[name] for name in weights)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"feedback": "ef21"}, "models.feedback='ef21': expected 'none' or 'error'"),
        ({"bits": (3, 4)}, r"models.bits=\(3, 4\): expected one number"),
    ],
)
@pytest.mark.parametrize("method", [FedSLConfig, FedLPQConfig])
def test_what_needs_to_know_the_receiver_is_refused(method, change, said):
    with pytest.raises(ValueError, match=said):
        method(models=dataclasses.replace(COARSE, **change))


def test_numbers_of_other_kinds_do_not_matter():
    FedSLConfig(models=dataclasses.replace(COARSE, keep=(0.1, 0.2)))


@pytest.mark.parametrize(
    "change",
    [{"restore": False, "prune_ratio": 0.2}, {"client_update": "relay"}],
)
def test_what_excludes_it_is_refused(change):
    with pytest.raises(ValueError, match="models.kind='qsgd': expected 'float32' with"):
        dataclasses.replace(PLAIN, models=COARSE, **change)
