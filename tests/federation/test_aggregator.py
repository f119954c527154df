"""Laws of the server's step along the mean update, in both methods."""

import dataclasses
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from fedjax_sl.errors import InputError
from fedjax_sl.federation.aggregator import first_moments, server_step
from fedjax_sl.federation.aggregator_config import Aggregator, AggregatorConfig
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.reports.labels import with_effect
from fedjax_sl.sweep import groups, sweep
from tests.fedlpq.test_fedlpq import EXACT, SHAPE, N, TwoBlocks, cohort_of
from tests.reference.aggregator import begun, stepped
from tests.worlds import assert_close, assert_equal, tiny_cohort, tiny_model


KINDS = [kind for kind in get_args(Aggregator) if kind != "average"]
PLAIN = AggregatorConfig(kind="momentum", beta1=0.0)
"""Momentum 0 and rate 1."""
ADAM = AggregatorConfig(kind="adam", learning_rate=0.03, beta1=0.8, beta2=0.9)
SPLIT = FedSLConfig(
    cohort_size=4,
    interval=1,
    learning_rate=0.05,
    prune_ratio=0.5,
    prune_end=0,
    importance="random",
    dropout_rate=0.0,
    bits=32,
)
UNPRUNED = dataclasses.replace(SPLIT, prune_ratio=0.0)


def algorithm(config, norm="none"):
    if isinstance(config, FedSLConfig):
        return fedsl(tiny_model(norm=norm), config)
    return fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)


def cohort(config, key, fault=None):
    found = tiny_cohort(key) if isinstance(config, FedSLConfig) else cohort_of(key)
    size = len(found.client_id)
    return found if fault is None else found._replace(fault=jnp.full(size, fault))


def params_of(state):
    """Of what the server steps: one client's half, or the whole network."""
    if hasattr(state, "variables"):
        return state.variables["params"]
    return jax.tree.map(lambda x: x[0], state.client["params"])


def played(config, key, faults=(None, None), state=None, norm="none"):
    """The states before and after each round, a fault for each."""
    made = algorithm(config, norm)
    state = jax.jit(made.init)(key) if state is None else state
    step, states = jax.jit(made.round), [state]
    for number, fault in enumerate(faults):
        own = jax.random.fold_in(key, number)
        states.append(step(states[-1], cohort(config, own, fault), own)[0])
    return states


def by_module(state, *, moments=False):
    """Parameters and first moments of each module, the layers that are sent or not."""
    trees = (state.moments.first,)
    if not moments:
        trees = (params_of(state), *trees)
    found = {}
    for tree in trees:
        for path, leaf in flatten_dict(tree).items():
            found.setdefault(path[:-1], []).append(np.asarray(leaf))
    return found


def leaves(tree):
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]


def with_step(config, aggregator):
    return dataclasses.replace(config, aggregator=aggregator)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_step_as_printed(kind, key):
    """In three updates, large and small, against NumPy; what is not sent stays."""
    config = AggregatorConfig(kind=kind, learning_rate=0.2, beta1=0.7, beta2=0.8)
    params = {"a": jax.random.normal(key, (6, 3)), "b": jnp.ones(4)}
    sent = {"a": jnp.arange(3)[None] > 0, "b": jnp.array(True)}
    moments = first_moments(config, params)
    mine = {name: np.asarray(x, float) for name, x in params.items()}
    kept = {name: begun(config, x) for name, x in mine.items()}
    for number, scale in enumerate((1.0, 1e-3, 0.1)):
        draw = partial(jax.random.normal, jax.random.fold_in(key, number))
        update = {name: scale * draw(x.shape) for name, x in params.items()}
        mean = jax.tree.map(jnp.add, params, update)
        params, moments = server_step(config, moments, mean, start=params, sent=sent)
        for name, gap in update.items():
            new, held = stepped(config, kept[name], mine[name], np.asarray(gap))
            there = np.broadcast_to(sent[name], new.shape)
            mine[name] = np.where(there, new, mine[name])
            pairs = zip(held, kept[name], strict=True)
            kept[name] = [np.where(there, *pair) for pair in pairs]
    for name, x in params.items():
        np.testing.assert_allclose(x, mine[name], rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(moments.first[name], kept[name][0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        SPLIT,
        dataclasses.replace(SPLIT, restore=False),
        dataclasses.replace(SPLIT, restore=False, average_over="keepers"),
        dataclasses.replace(EXACT, keep_probability=0.5),
    ],
    ids=["restored", "hard", "hard keepers", "layers"],
)
def test_without_momentum_at_rate_1_it_is_the_average(config, key):
    usual, found = (
        played(config, key),
        played(with_step(config, PLAIN), key),
    )
    assert_close(usual[-1], found[-1]._replace(moments=None), 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", [UNPRUNED, EXACT], ids=["FedSL", "FedLP-Q"])
def test_two_rounds_of_adam_are_those_of_numpy(config, key):
    """From the clients' means, which are the same method's without a step."""
    states = played(with_step(config, ADAM), key)
    mine = leaves(params_of(states[0]))
    kept = [begun(ADAM, x) for x in mine]
    for number, state in enumerate(states[:-1]):
        step = jax.jit(algorithm(config).round)
        own = jax.random.fold_in(key, number)
        plain = state._replace(moments=None)
        mean = leaves(params_of(step(plain, cohort(config, own), own)[0]))
        start = leaves(params_of(state))
        for place, (new, old) in enumerate(zip(mean, start, strict=True)):
            pair = stepped(ADAM, kept[place], mine[place], new - old)
            mine[place], kept[place] = pair
        for x, y in zip(leaves(params_of(states[number + 1])), mine, strict=True):
            np.testing.assert_allclose(x, y, atol=3e-4 * ADAM.rate)
    assert_equal(params_of(states[0]), params_of(played(config, key)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_no_client_kept_stays_and_so_do_its_moments(kind, key):
    """Under a common mask, which leaves out the same entries of all clients."""
    config = dataclasses.replace(SPLIT, mask_scope="common")
    states = played(with_step(config, AggregatorConfig(kind=kind)), key, (None,) * 3)
    seen = 0
    for old, new in zip(states, states[1:], strict=False):
        for name in ("stage_00", "stage_01"):
            mask = np.asarray(new.mask[name]["conv"]["kernel"][0])
            before, after = (
                [
                    np.asarray(tree[name]["conv"]["kernel"])
                    for tree in (params_of(state), *state.moments)
                    if tree is not None
                ]
                for state in (old, new)
            )
            gone = np.broadcast_to(~mask, before[0].shape)
            for x, y in zip(before, after, strict=True):
                np.testing.assert_array_equal(x[gone], y[gone])
                assert (x[~gone] != y[~gone]).any()
            # Entries that had momentum when they were pruned are the case in point.
            seen += np.any(before[1][gone] != 0)
    assert seen


def test_layers_that_no_client_sends_stay_and_so_do_their_moments(key):
    config = dataclasses.replace(EXACT, keep_probability=0.15)
    states = played(with_step(config, ADAM), key, (None,) * 4)
    stayed = moved = 0
    for old, new in zip(states, states[1:], strict=False):
        before, after = by_module(old), by_module(new)
        for name, leaves_before in before.items():
            pairs = zip(leaves_before, after[name], strict=True)
            same = [np.array_equal(x, y) for x, y in pairs]
            assert all(same) or not any(same)
            held = any(np.any(x) for x in by_module(old, moments=True)[name])
            stayed, moved = stayed + (all(same) and held), moved + (not any(same))
    assert stayed and moved


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [SPLIT, dataclasses.replace(SPLIT, restore=False), EXACT],
    ids=["FedSL", "hard", "FedLP-Q"],
)
def test_without_a_valid_update_nothing_moves(config, key):
    """Though there is momentum from the round before."""
    _, old, new = played(with_step(config, ADAM), key, (None, np.nan))
    assert all((x != 0).any() for x in leaves(old.moments.first)[:2])
    assert_equal(old.moments, new.moments)
    assert_equal(params_of(old), params_of(new))


@pytest.mark.slow
@pytest.mark.parametrize("average_over", ["all", "keepers"])
@pytest.mark.parametrize("aggregator", [ADAM, AggregatorConfig(kind="momentum")])
def test_what_all_pruned_for_good_stays_0(average_over, aggregator, key):
    config = dataclasses.replace(
        SPLIT, restore=False, average_over=average_over, aggregator=aggregator
    )
    states = played(config, key, (None,) * 4)
    dead = [np.zeros(x.shape, bool) for x in leaves(params_of(states[0]))]
    for state in states[1:]:
        masks = jax.tree.leaves(state.mask, is_leaf=lambda x: x is None)
        pairs = zip(dead, leaves(params_of(state)), masks, strict=True)
        for place, (gone, x, mask) in enumerate(pairs):
            if mask is not None:
                dead[place] = gone | np.broadcast_to(~mask.any(axis=0), gone.shape)
            assert not x[dead[place]].any()
    assert any(gone.any() for gone in dead)


@pytest.mark.slow
def test_who_prunes_for_good_adds_no_update(key):
    """At a learning rate of 0 only pruning moves the mean, and no moment sees it."""
    config = dataclasses.replace(SPLIT, restore=False, learning_rate=0.0)
    usual = played(config, key)
    found = played(with_step(config, ADAM), key)
    assert all(np.abs(x).max() < 1e-7 for x in leaves(found[-1].moments.first))
    assert_close(usual[-1].client, found[-1].client)


@pytest.mark.slow
def test_statistics_are_averaged_as_ever(key):
    usual = played(UNPRUNED, key, (None,), norm="batch")[-1]
    found = played(with_step(UNPRUNED, ADAM), key, (None,), norm="batch")[-1]
    assert_equal(usual.client["batch_stats"], found.client["batch_stats"])
    gaps = zip(leaves(params_of(usual)), leaves(params_of(found)), strict=True)
    assert all((x != y).any() for x, y in gaps)


@pytest.mark.slow
@pytest.mark.parametrize("config", [UNPRUNED, EXACT], ids=["FedSL", "FedLP-Q"])
def test_the_numbers_are_swept_by_one_program(config, key):
    points = [
        with_step(config, dataclasses.replace(ADAM, learning_rate=rate, tau=tau))
        for rate, tau in ((0.0, 1e-3), (0.1, 1e-3), (0.1, 0.1))
    ]
    assert groups(points) == [[0, 1, 2]]
    start = params_of(played(config, key, ())[0])

    def run(config):
        made = algorithm(config)
        return params_of(made.round(made.init(key), cohort(config, key), key)[0])

    found = sweep(run, points)
    assert_close(found[0], start, 1e-6)
    first, second = (leaves(x) for x in found[1:])
    gaps = [np.abs(x - y).max() for x, y in zip(first, second, strict=True)]
    assert min(gaps) > 1e-4


def test_what_has_no_effect_is_known():
    for run, name in (
        (FedLPQRun(method=FedLPQConfig()), "method.aggregator.tau"),
        (FedSLRun(method=FedSLConfig()), "method.aggregator.learning_rate"),
    ):
        assert name not in with_effect(run)
        assert "method.aggregator.kind" in with_effect(run)
    whole = FedLPQConfig(bits=32, keep_probability=1.0, aggregator=ADAM)
    assert FedLPQRun(method=whole).title == "FedAdam"


@pytest.mark.parametrize(
    "field", [{"tau": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"learning_rate": -1.0}]
)
def test_numbers_out_of_range_are_refused(field):
    (name,) = field
    with pytest.raises(ValueError, match=f"^{name}=.*: expected a number"):
        AggregatorConfig(kind="adam", **field)


def test_a_relay_has_no_mean_to_step_along():
    with pytest.raises(ValueError, match=r"aggregator.kind='adam': expected 'average'"):
        FedSLConfig(client_update="relay", aggregator=ADAM)


def test_a_trimmed_mean_of_models_pruned_for_good_has_no_start():
    config = dataclasses.replace(SPLIT, restore=False, trim=0.25)
    with pytest.raises(InputError, match="trim=0.25: .*restore=False"):
        dataclasses.replace(config, aggregator=ADAM)
