"""Compressed updates of FedLP-Q: what is sent, its bits, and what residuals keep."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.layers import to_units
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.estimates.memory import feedback_bytes
from fedjax_sl.fedlpq.estimates.traffic import most
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY
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
from tests.worlds import assert_close, assert_equal


TOP = CompressorConfig(kind="top_k", keep=0.1)
FEEDBACK = dataclasses.replace(TOP, feedback="error")


def with_updates(updates, **change):
    return dataclasses.replace(EXACT, updates=updates, **change)


def rounds(config, key, cohorts, preference=None):
    """The states after each of some rounds of these clients, and the last metrics."""
    made = fedlpq(networks(preference), config, num_clients=N, input_shape=SHAPE)
    state, step = jax.jit(made.init)(key), jax.jit(made.round)
    states = [state]
    for number, cohort in enumerate(cohorts):
        state, metrics = step(state, cohort, jax.random.fold_in(key, number))
        states.append(state)
    return states, metrics


def test_the_method_is_layer_drop_then_qsgd_then_elias(key):
    """The published codes from the family: models to a last bit, and bits alike."""
    usual = dataclasses.replace(
        EXACT, bits=6, keep_probability=0.5, rounding="nearest", code="omega"
    )
    how = CompressorConfig(
        kind="qsgd", bits=6, norm="l2", rounding="nearest", coder="omega"
    )
    cohorts = [cohort_of(key)]
    one, ours = rounds(usual, key, cohorts)
    other, theirs = rounds(dataclasses.replace(usual, updates=how), key, cohorts)
    assert_close(one[-1].variables, other[-1].variables, 1e-6)
    assert_equal(traffic(ours.links), traffic(theirs.links))


@pytest.mark.slow
def test_everything_sent_is_the_plain_scheme(key):
    everything = CompressorConfig(kind="top_k", keep=1.0)
    (_, plain), _ = rounds(EXACT, key, [cohort_of(key)])
    (_, found), _ = rounds(with_updates(everything), key, [cohort_of(key)])
    assert_close(plain.variables, found.variables, 1e-6)


@pytest.mark.slow
def test_layers_left_out_take_no_bits_and_keep_their_residual(key):
    config = with_updates(FEEDBACK, keep_probability=0.5)
    (_, before, after), metrics = rounds(config, key, [cohort_of(key)] * 2)
    names = sorted(to_units(before.variables["params"], by="module"))
    sizes = np.array([leaf.kept.shape[1] for leaf in before.residual])
    kept = np.array(
        [
            np.any(new.kept != old.kept, axis=1)
            for old, new in zip(before.residual, after.residual, strict=True)
        ]
    ).T
    # A tenth of each layer that is sent, and no less than one entry.
    each = np.maximum(np.floor(0.1 * sizes + 1e-6), 1).astype(int)
    assert metrics.links.updates_up.entries.tolist() == (kept @ each).tolist()
    assert kept.shape == (N, len(names)) and kept.any() and not kept.all()


@pytest.mark.slow
def test_what_is_sent_and_what_is_kept_add_up(key):
    """w - C(w - w_k + e) with e' = w - w_k + e - C(...), of one client's round."""
    config = with_updates(FEEDBACK, cohort_size=1)
    cohort = cohort_of(key, ids=(3,))
    (_, middle, end), _ = rounds(config, key, [cohort] * 2)
    made = fedlpq(TwoBlocks(), EXACT, num_clients=N, input_shape=SHAPE)
    plain, _ = jax.jit(made.round)(
        middle._replace(residual=None), cohort, jax.random.fold_in(key, 1)
    )
    start, trained, found = (
        to_units(state.variables["params"], by="module")
        for state in (middle, plain, end)
    )
    for name, old, new in zip(
        sorted(start), middle.residual, end.residual, strict=True
    ):
        assert np.asarray(old.kept[3]).any()
        np.testing.assert_allclose(
            start[name] - found[name] + new.kept[3],
            start[name] - trained[name] + old.kept[3],
            atol=1e-6,
        )


@pytest.mark.slow
def test_residuals_follow_the_client_and_rejected_ones_stay(key):
    cohort = cohort_of(key, ids=(4, 1))
    broken = cohort_of(key, ids=(2, 4))._replace(fault=jnp.asarray([1.0, jnp.inf]))
    fine = cohort._replace(fault=jnp.ones(2))
    config = with_updates(FEEDBACK, cohort_size=2)
    (first, second, third), _ = rounds(config, key, [fine, broken])
    for before, after, ids in ((first, second, [1, 4]), (second, third, [2])):
        pairs = zip(before.residual, after.residual, strict=True)
        gaps = [np.any(new.kept != old.kept, axis=1) for old, new in pairs]
        assert np.flatnonzero(np.any(gaps, axis=0)).tolist() == ids


@pytest.mark.slow
def test_a_sub_model_sends_and_keeps_its_own_layers_alone(key):
    config = with_updates(FEEDBACK, preference="u")
    cohort = cohort_of(key, counts=[BATCH] * N)
    image = jnp.zeros((N * STEPS * BATCH, 32, 32, 3))
    cohort = cohort._replace(examples=cohort.examples._replace(image=image))
    made = fedlpq(networks("u"), config, num_clients=N)
    state = jax.jit(made.init)(key)
    after, metrics = jax.jit(made.round)(state, cohort, key)
    largest = np.argmax(np.asarray(state.complexity))
    smallest = np.argmin(np.asarray(state.complexity))
    assert state.complexity[largest] > state.complexity[smallest]
    held = [np.asarray(leaf.kept).any(axis=1) for leaf in after.residual]
    entries = metrics.links.updates_up.entries
    assert sum(leaf[smallest] for leaf in held) < sum(leaf[largest] for leaf in held)
    assert entries[smallest] < entries[largest]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qsgd-rice", "top_k-qsgd", "eden", "sign"])
def test_no_round_takes_more_than_the_most(name, key):
    config = with_updates(FAMILY[name])
    _, metrics = rounds(config, key, [cohort_of(key)])
    found = traffic(metrics.links).updates_up
    bound = most(
        TwoBlocks(), SHAPE, config, np.full(N, STEPS * BATCH)
    ).traffic.updates_up
    assert (found > 0).all() and (found <= bound).all()


@pytest.mark.slow
def test_each_class_of_devices_has_its_own_share(key):
    classes = dataclasses.replace(FEEDBACK, keep=(0.05, 0.5))
    _, metrics = rounds(with_updates(classes), key, [cohort_of(key)])
    few, many, *rest = metrics.links.updates_up.entries.tolist()
    assert many > 5 * few and rest == [few, many] * 2


def test_memory_is_that_of_the_state(key):
    config = with_updates(FEEDBACK)
    made = fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)
    state = jax.eval_shape(made.init, key)
    kept = sum(4 * leaf.size for leaf in jax.tree.leaves(state.residual))
    assert feedback_bytes(TwoBlocks(), SHAPE, config, num_clients=N) == kept > 0
    assert feedback_bytes(TwoBlocks(), SHAPE, with_updates(TOP), num_clients=N) == 0


def test_settings_that_it_replaces_have_no_effect():
    idle = FedLPQRun(method=FedLPQConfig(updates=TOP)).idle
    assert {"bits", "code", "rounding", "updates.bits"} <= set(idle)
    assert "updates.keep" not in idle
    assert "bits" not in FedLPQRun().idle


def test_a_title_says_that_something_is_compressed():
    def title(**change):
        return FedLPQRun(method=FedLPQConfig(keep_probability=1.0, **change)).title

    assert title(bits=8) == "compressed FedAvg" and title(bits=32) == "FedAvg"
    assert title(preference="u") == FedLPQRun().title == "FedLP-Q"
    assert title(updates=TOP) == title(models=TOP, bits=32) == "compressed FedAvg"
    assert title(updates=TOP, preference="u") == "compressed FedLP"


def test_a_compressor_of_matrices_is_refused():
    with pytest.raises(ValueError, match="updates.kind='power_sgd': expected a compre"):
        FedLPQConfig(updates=CompressorConfig(kind="power_sgd"))
