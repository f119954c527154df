"""Laws of a round: masks, drift, synchronisation, what may influence what."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression import apply_mask, kept
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.global_model import global_model
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.state import rates
from fedjax_sl.fedsl.usual_rates import usual_rates
from fedjax_sl.traffic import side_information, traffic
from tests.worlds import (
    SHAPE,
    assert_close,
    assert_equal,
    batches_of,
    programs,
    tiny_cohort,
    tiny_model,
    with_batches,
)


ON = FedSLConfig(
    cohort_size=4,
    interval=3,
    learning_rate=0.05,
    prune_ratio=0.5,
    bits=8,
    dropout_rate=0.25,
)


def play(config, key, count, *, cohort=None):
    """States before and after each of `count` rounds, and their metrics."""
    init, round = programs()
    cohort = cohort or tiny_cohort(key, config.cohort_size)
    states, metrics = [init(config, key)], []
    for number in range(count):
        round_key = jax.random.fold_in(key, number)
        state, report = round(config, states[-1], cohort, round_key)
        states.append(state)
        metrics.append(report)
    return states, metrics


def algorithm_of(config):
    return fedsl(tiny_model(), config)


def spread(state):
    """(1/K) sum_k |w_k - mean|^2 over the client parameters."""
    return sum(
        ((leaf - leaf.mean(axis=0, keepdims=True)) ** 2).sum() / leaf.shape[0]
        for leaf in jax.tree.leaves(state.client["params"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["filter", "weight"])
def test_pruned_entries_do_not_move_between_aggregations(key, granularity):
    states, _ = play(dataclasses.replace(ON, granularity=granularity), key, 2)
    before, after = (s.client["params"] for s in (states[0], states[2]))
    mask = states[1].mask
    assert_equal(states[2].mask, mask)
    inverse = jax.tree.map(lambda m: None if m is None else ~m, mask, is_leaf=_none)
    frozen = _only_pruned(before, inverse)
    assert sum((leaf != 0).sum() for leaf in jax.tree.leaves(frozen)) > 0
    assert_equal(_only_pruned(after, inverse), frozen)
    moved = [
        (a != b).any()
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    ]
    assert any(moved)


def _none(leaf):
    return leaf is None


def _only_pruned(tree, inverse):
    def one(mask, leaf):
        return jnp.zeros_like(leaf) if mask is None else jnp.where(mask, leaf, 0)

    return jax.tree.map(one, inverse, tree, is_leaf=_none)


@pytest.mark.slow
@pytest.mark.parametrize("quantizer_norm", ["max", "range"])
def test_pruned_weights_compete_again_with_their_old_value(key, quantizer_norm):
    config = dataclasses.replace(
        ON,
        mask_scope="common",
        importance="random",
        quantizer_norm=quantizer_norm,
    )
    states, _ = play(config, key, 7)
    kernel = [s.client["params"]["stage_00"]["conv"]["kernel"][0] for s in states]
    masks = [
        s.mask["stage_00"]["conv"]["kernel"][0].reshape(-1)
        for s in (states[1], states[4])
    ]
    revived = ~masks[0] & masks[1]
    assert revived.any()
    np.testing.assert_array_equal(kernel[0][..., revived], kernel[3][..., revived])
    assert (kernel[3][..., revived] != 0).all()


@pytest.mark.slow
def test_hard_pruning_sets_weights_to_zero(key):
    states, _ = play(dataclasses.replace(ON, restore=False), key, 1)
    params, mask = states[1].client["params"], states[1].mask
    assert_equal(params, jax.vmap(apply_mask)(params, mask))


def test_clients_are_equal_after_an_aggregation_and_only_then(key):
    states, _ = play(ON, key, 6)
    drifts = [float(spread(state)) for state in states]
    assert [drift == 0 for drift in drifts] == [1, 0, 0, 1, 0, 0, 1]


@pytest.mark.slow
def test_without_upload_quantisation_an_aggregation_keeps_the_mean(key):
    config = dataclasses.replace(ON, upload_bits=32)
    later = dataclasses.replace(config, interval=100)
    together, apart = play(config, key, 3)[0][-1], play(later, key, 3)[0][-1]
    assert spread(apart) > 0 == spread(together)
    assert_close(global_model(apart).client, global_model(together).client, 1e-6)
    assert_equal(apart.server, together.server)


def test_drift_is_bounded_by_the_updates(key):
    config = dataclasses.replace(ON, interval=100, momentum=0.0)
    states, _ = play(config, key, 4)
    energy = 0.0
    for steps, (old, new) in enumerate(zip(states[:-1], states[1:], strict=True), 1):
        moves = jax.tree.map(
            lambda a, b: ((a - b) ** 2).sum() / a.shape[0],
            old.client["params"],
            new.client["params"],
        )
        energy += sum(jax.tree.leaves(moves))
        assert 0 < spread(new) <= steps * energy


def test_another_clients_data_has_no_influence_before_the_server_steps(key):
    cohort = tiny_cohort(key)
    noise = jax.random.normal(key, batches_of(cohort).image.shape)

    def end(images):
        batches = batches_of(cohort)._replace(image=images)
        return play(ON, key, 1, cohort=with_batches(cohort, batches))[0][-1].client

    image = batches_of(cohort).image
    mine, others = image.at[0].add(noise[0]), image.at[1:].add(noise[1:])
    first = [jax.tree.map(lambda x: x[0], end(x)) for x in (image, others)]
    assert_equal(*first)
    with pytest.raises(AssertionError):
        assert_equal(first[0], jax.tree.map(lambda x: x[0], end(mine)))


def test_a_padded_example_has_no_influence(key):
    cohort = tiny_cohort(key)
    batches = batches_of(cohort)
    batches = batches._replace(weight=batches.weight.at[:, :, 3:].set(0.0))
    noise = jax.random.normal(key, batches.image.shape)
    changed = batches.image.at[:, :, 3:].add(noise[:, :, 3:])
    config = dataclasses.replace(ON, dropout_rate=0.0)
    ends = [
        play(config, key, 2, cohort=with_batches(cohort, b))[0][-1]
        for b in (batches, batches._replace(image=changed))
    ]
    assert_close(ends[0].client, ends[1].client)
    assert_close(ends[0].server, ends[1].server)


def test_a_padded_client_has_no_influence(key):
    ids = jnp.array([0, 1, 2, 3])
    cohort = tiny_cohort(key, ids=ids)
    padded = cohort._replace(num_examples=cohort.num_examples.at[3].set(0))
    poison = batches_of(cohort).image.at[3].set(1e3)
    poisoned = with_batches(padded, batches_of(cohort)._replace(image=poison))
    ends = [play(ON, key, 3, cohort=c)[0][-1] for c in (padded, poisoned)]
    assert_close(global_model(ends[0]), global_model(ends[1]))


def test_results_depend_on_who_takes_part_not_on_their_order(key):
    config = dataclasses.replace(ON, learning_rate=0.01)
    orders = [jnp.array([4, 7, 1, 9]), jnp.array([9, 1, 4, 7])]
    ends = [
        play(config, key, 3, cohort=tiny_cohort(key, ids=ids))[0][-1] for ids in orders
    ]
    assert_close(global_model(ends[0]), global_model(ends[1]), 1e-4)


def test_momentum_stays_with_the_client(key):
    config = dataclasses.replace(ON, interval=1, prune_ratio=0.0, bits=32)
    init, round = programs()
    state = init(config, key)
    first = tiny_cohort(key, ids=jnp.array([0, 1, 2, 3]))
    second = tiny_cohort(key, ids=jnp.array([5, 0, 6, 3]))
    absent = second._replace(num_examples=0 * second.num_examples)
    state, _ = round(config, state, first, key)
    trace = jax.tree.leaves(state.client_opt)[0]
    after = jax.tree.leaves(round(config, state, absent, key)[0].client_opt)[0]
    np.testing.assert_array_equal(after[1], trace[0])
    np.testing.assert_array_equal(after[3], trace[3])
    assert (trace[0] != 0).any() and (trace[3] != 0).any()
    assert (after[0] == 0).all() and (after[2] == 0).all()


@pytest.mark.slow
def test_device_classes_have_their_own_ratio(key):
    config = dataclasses.replace(
        ON, prune_ratio=(0.0, 0.5), dropout_rate=(0.0, 0.5), charge_scoring=False
    )
    states, metrics = play(config, key, 1)
    ratios = np.asarray(metrics[0].kept_ratio)
    assert (ratios[[0, 2]] > 0.99).all() and (ratios[[1, 3]] < 0.8).all()
    ups = np.asarray(metrics[0].links.activations_up.entries)
    assert ups[0] == ups[2] > ups[1]
    del states


@pytest.mark.slow
def test_changing_a_number_does_not_compile_again(key):
    model, cohort = tiny_model(), tiny_cohort(key)
    traces = []

    @jax.jit
    def one(config, key):
        traces.append(config)
        algorithm = fedsl(model, config)
        return algorithm.round(algorithm.init(key), cohort, key)

    base = dataclasses.replace(ON, prune_end=10)
    one(base, key)
    for change in (
        {"prune_ratio": 0.2},
        {"bits": 4},
        {"dropout_rate": 0.6},
        {"interval": 7},
        {"learning_rate": 0.01},
    ):
        one(dataclasses.replace(base, **change), key)
    assert len(traces) == 1
    one(dataclasses.replace(base, granularity="weight"), key)
    assert len(traces) == 2


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["filter", "weight"])
def test_bits_of_a_period(key, granularity):
    config = dataclasses.replace(
        ON, granularity=granularity, dropout_rate=0.0, scoring="pass", thin_cut=False
    )
    states, metrics = play(config, key, 3)
    rounds = jax.tree.map(lambda *x: np.stack(x), *metrics)
    bits, side = traffic(rounds.links), side_information(rounds.links)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(states[0].client["params"]))
    np.testing.assert_array_equal(bits.model_down, [[32 * size] * 4, [0] * 4, [0] * 4])
    activations = 5 * 4 * 4 * 6 * 32
    expected = np.array([2, 1, 1])[:, None] * np.full((1, 4), activations)
    np.testing.assert_array_equal(bits.gradients_down, expected)
    labels = np.array([2, 1, 1])[:, None] * np.full((1, 4), 5 * 2)
    np.testing.assert_array_equal(bits.activations_up, expected)
    np.testing.assert_array_equal(bits.labels_up, labels)
    num_kept = jax.vmap(kept)(states[3].mask, states[3].client["params"])
    kernels = 9 * (SHAPE[2] * 4 + 4 * 6)
    flags = 4 + 6 if granularity == "filter" else kernels
    beside = np.full(4, 32 * 4 + flags)
    update = 8 * np.asarray(num_kept) + beside
    np.testing.assert_array_equal(bits.updates_up, [[0] * 4, [0] * 4, update])
    np.testing.assert_array_equal(side.updates_up, [[0] * 4, [0] * 4, beside])
    others = side._replace(updates_up=0 * side.updates_up)
    assert not any(link.any() for link in others)


@pytest.mark.slow
def test_every_way_to_quantise_and_drop_takes_a_finite_step(key):
    # The others are compared with the reference, in every pair.
    for change in (
        {
            **{"quantizer_norm": "l2", "quantizer_levels": "2^b", "down_bits": 8},
            "dropout_per": "channel",
        },
        {"quantizer_norm": "range", "down_bits": 6, "dropout_mask": "bitmap"},
        {"quantizer_levels": "2^b-1", "rescale": False, "granularity": "weight"},
    ):
        states, metrics = play(dataclasses.replace(ON, **change), key, 3)
        assert np.isfinite(metrics[-1].loss).all(), change
        leaves = jax.tree.leaves(states[-1])
        assert all(np.isfinite(leaf).all() for leaf in leaves), change
        assert spread(states[-1]) == 0


@pytest.mark.parametrize(
    "change, named",
    [
        ({"prune_ratio": 1.0}, "prune_ratio=1.0"),
        ({"prune_ratio": (0.1, -1.0)}, "prune_ratio=-1.0"),
        ({"dropout_rate": -0.1}, "dropout_rate=-0.1"),
        ({"bits": 1}, "bits=1"),
        ({"upload_bits": 33}, "upload_bits=33"),
        ({"interval": 0}, "interval=0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"cohort_size": 0}, "cohort_size=0"),
    ],
)
def test_settings_out_of_range(change, named):
    with pytest.raises(ValueError, match=named):
        FedSLConfig(**change)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.02, 0.02)),
        ({"server_update": "sequential"}, (0.02, 0.005)),
        ({"client_update": "relay"}, (0.005, 0.005)),
        ({"client_update": "relay", "server_learning_rate": 0.1}, (0.005, 0.1)),
        ({"server_update": "sequential", "learning_rate": 0.02}, (0.02, 0.02)),
        ({"learning_rate": 0.3, "server_learning_rate": 0.1}, (0.3, 0.1)),
    ],
)
def test_who_steps_once_for_each_client_has_a_share_of_the_rate(options, expected):
    """By default; what is given is taken as it is. K = 4."""
    config = FedSLConfig(cohort_size=4, **options)
    assert tuple(map(float, rates(config, jnp.int32(3)))) == pytest.approx(expected)
    resolved = FedSLRun(method=config).resolved().method
    assert usual_rates(resolved) == usual_rates(config) == pytest.approx(expected)
    assert resolved.learning_rate is not None


@pytest.mark.slow
def test_a_run_that_starts_from_its_models_has_the_global_one_everywhere(key):
    """Between two aggregations clients differ; after one they stay as they are."""
    config = dataclasses.replace(ON, client_weight="examples")
    sizes = jnp.array([5, 10, 20, 40])
    cohort = tiny_cohort(key, config.cohort_size)._replace(num_examples=sizes)
    states, _ = play(config, key, 4, cohort=cohort)
    joined = algorithm_of(config).joined
    assert joined is not None and spread(states[4]) > 0
    together, wanted = joined(states[4]), global_model(states[4])
    assert spread(together) == 0
    assert_close(global_model(together), wanted)
    assert_equal(joined(states[3]).client, states[3].client)
    # One that diverged and has no weight: what it holds counts nowhere.
    lost = jax.tree.map(lambda x: x.at[0].set(jnp.nan), states[4].client)
    left = states[4]._replace(client=lost, weights=jnp.array([0.0, 0.2, 0.3, 0.5]))
    assert_close(global_model(joined(left)), global_model(left))
