"""With `restore=False` a weight that everyone pruned is 0 from then on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.compression import apply_mask, magnitude_scores
from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.models.network import network
from fedjax_sl.models.prunable import prunable
from tests.worlds import assert_close, assert_equal, programs, tiny_cohort


HARD = FedSLConfig(
    cohort_size=4,
    interval=1,
    learning_rate=0.05,
    prune_ratio=0.5,
    prune_end=0,
    importance="random",
    restore=False,
    dropout_rate=0.0,
)


def play(config, key, count, cohort=None):
    init, round = programs()
    cohort = cohort or tiny_cohort(key)
    states, metrics = [init(config, key)], []
    for number in range(count):
        round_key = jax.random.fold_in(key, number)
        state, report = round(config, states[-1], cohort, round_key)
        states.append(state)
        metrics.append(report)
    return states, metrics


def kernels(state):
    return [x for x in jax.tree.leaves(state.client["params"]) if x.ndim > 2]


@pytest.mark.parametrize(
    "granularity, average_over",
    [("filter", "keepers"), ("weight", "keepers"), ("filter", "all")],
)
def test_what_all_pruned_is_never_revived(key, granularity, average_over):
    """Though its random score makes it compete again in every round."""
    config = dataclasses.replace(
        HARD, granularity=granularity, average_over=average_over
    )
    states, _ = play(config, key, 4)
    dead = [np.zeros(x.shape, bool) for x in kernels(states[0])]
    for state in states[1:]:
        masks = [m for m in jax.tree.leaves(state.mask) if m.ndim > 2]
        for n, (weight, keep) in enumerate(zip(kernels(state), masks, strict=True)):
            kept_by_some = jnp.broadcast_to(keep.any(axis=0), weight.shape)
            dead[n] |= ~np.asarray(kept_by_some)
            assert (np.asarray(weight)[dead[n]] == 0).all()
            assert (np.asarray(weight) != 0).any()
    first, last = (sum((x == 0).sum() for x in kernels(s)) for s in states[1::3])
    assert 0 < first < last


def test_what_some_kept_is_averaged_over_them(key):
    config = dataclasses.replace(HARD, average_over="keepers", bits=32)
    apart = play(dataclasses.replace(config, interval=10), key, 1)[0][-1]
    together = play(config, key, 1)[0][-1]
    masks = [m for m in jax.tree.leaves(apart.mask) if m.ndim > 2]
    for each, mean, keep in zip(kernels(apart), kernels(together), masks, strict=True):
        keep = jnp.broadcast_to(keep, each.shape)
        count = keep.sum(axis=0)
        expected = (each * keep).sum(axis=0) / jnp.maximum(count, 1)
        assert_close(mean[0], jnp.where(count > 0, expected, 0.0), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("relay", [False, True])
def test_a_weight_that_becomes_0_is_no_update(key, relay):
    """Nobody learns anything, so that no update is too long."""
    config = dataclasses.replace(
        HARD,
        learning_rate=0.0,
        max_update_norm=1e-3,
        average_over="all" if relay else "keepers",
        client_update="relay" if relay else "parallel",
    )
    states, metrics = play(config, key, 2)
    assert not metrics[-1].rejected.any()
    longer = dataclasses.replace(config, learning_rate=0.5)
    assert play(longer, key, 1)[1][0].rejected.any()
    assert sum((x == 0).sum() for x in kernels(states[-1])) > 0


def test_an_absent_or_rejected_client_leaves_its_zeros_to_itself(key):
    """Its mask is nobody's business in a relay: the model is handed on as it was."""
    config = dataclasses.replace(HARD, client_update="relay", max_update_norm=1e-9)
    states, metrics = play(config, key, 1)
    assert metrics[0].rejected.all()
    assert_equal(states[1].client, states[0].client)


def test_without_an_update_that_can_be_used_all_is_as_before(key):
    config = dataclasses.replace(HARD, average_over="keepers", max_update_norm=1e-9)
    states, metrics = play(config, key, 1)
    assert metrics[0].rejected.all()
    assert_equal(states[1].client, states[0].client)


class Added(nn.Module):
    """x + conv(x): the kernel reads the channels that it writes."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(x + nn.Conv(16, (3, 3))(x))


@pytest.mark.slow
@pytest.mark.parametrize("ratio, left", [(0.25, 12), (0.5, 8)])
def test_behind_a_sum_no_filter_is_pruned_for_what_it_reads(key, ratio, left):
    parts = (nn.Conv(16, (3, 3)), Added(), lambda x: x.mean(axis=(1, 2)), nn.Dense(2))
    model = network(parts, input_shape=(4, 4, 2), num_classes=2).at(2)
    can, params = prunable(model), model.init(key).client["params"]
    config = FedSLConfig(restore=False)
    kept = []
    for _ in range(3):
        mask = masks(config, can, magnitude_scores(params), ratio, params=params)
        params = apply_mask(params, mask)
        kept.append(channels_kept(can.groups[0], mask))
    assert kept[0].sum() == left
    np.testing.assert_array_equal(kept[1:], kept[:-1])
