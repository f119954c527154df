"""A mean that few can move."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.federation.aggregation import mean_of_shares, share
from fedjax_sl.federation.combine import Received, clipped, trim_warnings, trimmed_mean
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.runs.build import prepare
from tests.draws import examples
from tests.worlds import (
    SHAPE,
    TwoBlocks,
    assert_close,
    assert_equal,
    tiny_cohort,
    tiny_model,
)


def received(values, weight=None, sent=None):
    values = jnp.asarray(values, jnp.float32)
    weight = jnp.ones(len(values)) if weight is None else jnp.asarray(weight)
    return Received({"a": values}, {"a": sent}, weight)


def combined(one, trim, old=0.0):
    shape = one.model["a"].shape[1:]
    return trimmed_mean(one, {"a": jnp.full(shape, old)}, trim=trim)["a"]


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    n=st.integers(1, 7),
    trim=st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.5]),
    seed=st.integers(0, 99),
)
def test_it_is_the_mean_of_what_is_left(n, trim, seed):
    values = np.random.default_rng(seed).normal(size=(n, 3, 2)).astype(np.float32)
    cut = min(int(np.floor(trim * n + 1e-9)), (n - 1) // 2)
    expected = np.sort(values, axis=0)[cut : n - cut].mean(axis=0)
    np.testing.assert_allclose(combined(received(values), trim), expected, atol=1e-6)
    if trim == 0.5:
        middle = np.median(values, axis=0)
        np.testing.assert_allclose(expected, middle, atol=1e-6)


@pytest.mark.parametrize(
    ("trim", "clients", "said"),
    [(0.05, 10, True), (0.05, 20, False), (0.1, 10, False), (0.5, 2, True)],
)
def test_a_share_that_is_nobody_is_said_to_be(trim, clients, said):
    config = FedSLConfig(trim=trim)
    assert len(trim_warnings(config, clients)) == said
    assert not trim_warnings(FedSLConfig(), clients)
    weighted = dataclasses.replace(config, client_weight="examples")
    *_, last = trim_warnings(weighted, clients)
    assert last == f"trim={trim}: clients count alike, client_weight has no effect"


@pytest.mark.parametrize(
    ("run", "senders"),
    [
        # Half of the layers by default, and a tenth of the clients absent.
        (FedLPQRun(method=FedLPQConfig(trim=0.1)), 5),
        (FedLPQRun(method=FedLPQConfig(trim=0.1, keep_probability=1.0)), None),
        (FedSLRun(method=FedSLConfig(trim=0.1)), None),
        (FedSLRun(method=FedSLConfig(trim=0.1), failure_probability=0.1), 9),
        (FedSLRun(method=FedSLConfig(trim=0.1, average_over="keepers")), 6.5),
    ],
)
def test_it_is_of_those_who_send_an_entry(run, senders):
    found = prepare(run).method.warnings
    assert [f"of {senders} clients" in said for said in found] == [True] * len(found)
    assert len(found) == (senders is not None)


def test_shares_are_as_they_are_written():
    """0.42 of 150 is 63, though the float32 nearest 0.42 is less than it."""
    values = np.arange(150.0, dtype=np.float32)[:, None] ** 3
    found = combined(received(values), 0.42)
    np.testing.assert_allclose(found, values[63:87].mean(axis=0), rtol=1e-5)


def test_a_minority_moves_it_no_further_than_the_others_lie(key):
    honest = np.asarray(jax.random.normal(key, (5, 40)))
    for wrong in (1e30, -1e30, np.inf, -np.inf):
        found = combined(received([*honest, *np.full((2, 40), wrong)]), 0.3)
        assert (found >= honest.min(axis=0)).all()
        assert (found <= honest.max(axis=0)).all()


def test_only_those_who_sent_are_ranked():
    values = [[1.0, 10.0], [2.0, 20.0], [9.0, 90.0], [np.nan, np.nan]]
    some = received(values, [1.0, 1.0, 1.0, 0.0], jnp.array([True, True, False, True]))
    np.testing.assert_allclose(combined(some, 0.5), [1.5, 15.0])
    masks = jnp.array([[True, False], [False, False], [True, False], [True, True]])
    some = received(values, [1.0, 1.0, 1.0, 0.0], masks)
    np.testing.assert_allclose(combined(some, 0.0, old=-3.0), [5.0, -3.0])


def test_nothing_trimmed_is_the_mean_over_those_who_sent(key):
    values = jax.random.normal(key, (6, 4, 3))
    flags = jnp.array([True, False, True, True, True, False])
    one = received(values, sent=flags)
    shares = [share(values[k], flags[k], jnp.float32(1 / 6)) for k in range(6)]
    summed = jax.tree.map(lambda *parts: sum(parts), *shares)
    expected = mean_of_shares(summed, jnp.zeros((4, 3)))
    np.testing.assert_allclose(combined(one, 0.0), expected, atol=1e-6)


def test_clipping_keeps_direction_and_bounds_length(key):
    tree = {"a": jax.random.normal(key, (5, 3)), "b": jnp.ones(4)}
    flat = jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(tree)])
    norm = float(jnp.linalg.norm(flat))
    assert_equal(clipped(tree, 1.01 * norm), tree)
    short = clipped(tree, norm / 4)
    assert_close(jax.tree.map(lambda x: 4 * x, short), tree)
    assert_equal(clipped(jax.tree.map(jnp.zeros_like, tree), 1.0)["b"], jnp.zeros(4))


SPLIT = FedSLConfig(cohort_size=4, interval=1, prune_ratio=0.0, bits=32)
LAYERS = FedLPQConfig(cohort_size=4, bits=32, learning_rate=0.01, keep_probability=0.7)


def played(key, config):
    """One round; the models before and after."""
    if isinstance(config, FedSLConfig):
        algorithm = fedsl(tiny_model(), config)
    else:
        net = TwoBlocks()
        algorithm = fedlpq(net, config, num_clients=4, input_shape=SHAPE)
    state = jax.jit(algorithm.init)(key)
    new, _ = jax.jit(algorithm.round)(state, tiny_cohort(key), key)
    name = algorithm.models[0]
    return getattr(state, name)["params"], getattr(new, name)["params"]


@pytest.mark.parametrize("config", [SPLIT, LAYERS])
@pytest.mark.slow
def test_methods_with_nothing_trimmed_or_clipped_are_as_before(key, config):
    _, plain = played(key, config)
    _, same = played(key, dataclasses.replace(config, trim=0.0, clip_norm=1e9))
    assert_close(plain, same)
    _, median = played(key, dataclasses.replace(config, trim=0.5))
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), plain, median)
    assert max(jax.tree.leaves(apart)) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("config", [SPLIT, LAYERS])
def test_a_clipped_round_moves_no_further_than_its_clip(key, config):
    before, after = played(key, dataclasses.replace(config, clip_norm=1e-3))
    moved = jax.tree.map(jnp.subtract, after, before)
    if isinstance(config, FedSLConfig):
        moved = jax.tree.map(lambda x: x[0], moved)
    length = jnp.sqrt(sum((x * x).sum() for x in jax.tree.leaves(moved)))
    most = 1e-3 if isinstance(config, FedSLConfig) else 2e-3
    assert 0 < length <= most * 1.001
