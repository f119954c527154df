"""Running statistics of batch norms, where channels are pruned."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from fedjax_sl.fedsl import FedSLConfig
from tests.worlds import assert_equal, programs, tiny_cohort, tiny_model


PRUNED = FedSLConfig(
    cohort_size=4,
    interval=1,
    learning_rate=0.05,
    prune_ratio=0.5,
    prune_end=0,
    importance="random",
    dropout_rate=0.0,
)
LATER = 10


def play(config, key, count=2):
    """States before and after each round."""
    init, round = programs(tiny_model(norm="batch"))
    states = [init(config, key)]
    for number in range(count):
        round_key = jax.random.fold_in(key, number)
        states.append(round(config, states[-1], tiny_cohort(key), round_key)[0])
    return states


def channels(state):
    """Of both client units: kept `[K, Cout]`, and the statistics `[2, K, Cout]`."""
    for name in ("stage_00", "stage_01"):
        norm = state.client["batch_stats"][name]["norm"]
        kept = np.asarray(state.mask[name]["norm"]["scale"])
        yield kept, np.stack([norm["mean"], norm["var"]])


def test_statistics_of_pruned_channels_stay_as_they_were(key):
    before, *_, after = play(dataclasses.replace(PRUNED, interval=LATER), key)
    for (_, old), (kept, new) in zip(channels(before), channels(after), strict=True):
        assert (~kept).any(axis=1).all()
        np.testing.assert_array_equal(new[:, ~kept], old[:, ~kept])
        assert (new[:, kept] != old[:, kept]).all()


@pytest.mark.slow
@pytest.mark.parametrize("trim", [None, 0.5])
def test_statistics_are_averaged_over_those_who_kept_the_channel(key, trim):
    """The others' channels are 0, of which nothing is learnt about it."""
    config = dataclasses.replace(PRUNED, trim=trim)
    apart = play(dataclasses.replace(config, interval=LATER), key, 1)[-1]
    start, together = play(config, key, 1)
    pairs = zip(channels(start), channels(apart), channels(together), strict=True)
    shared = 0
    for (_, old), (kept, each), (same, mean) in pairs:
        np.testing.assert_array_equal(kept, same)
        average = np.mean if trim is None else np.median
        for c in range(kept.shape[1]):
            who = kept[:, c]
            shared += 0 < who.sum() < 4
            expected = average(each[:, who, c], axis=1) if who.any() else old[:, 0, c]
            for k in range(4):
                np.testing.assert_allclose(mean[:, k, c], expected, rtol=1e-6)
    assert shared > 2


@pytest.mark.slow
def test_where_nobody_kept_a_channel_its_statistics_are_as_before(key):
    config = dataclasses.replace(PRUNED, mask_scope="common")
    states = play(config, key, 3)
    for before, after in itertools.pairwise(states):
        units = zip(channels(before), channels(after), strict=True)
        for (_, old), (kept, new) in units:
            pruned = ~kept[0]
            assert pruned.any()
            np.testing.assert_array_equal(new[..., pruned], old[..., pruned])
            assert (new[..., ~pruned] != old[..., ~pruned]).all()


@pytest.mark.slow
def test_where_everybody_is_rejected_all_statistics_are_as_before(key):
    """Clients keep every channel, so that none of them has the old statistics left."""
    whole = dataclasses.replace(PRUNED, prune_ratio=0.0, interval=2)
    start, learnt, rejected = play(
        dataclasses.replace(whole, max_update_norm=1e-9), key, 2
    )
    statistics = [s.client["batch_stats"] for s in (start, learnt, rejected)]
    assert_equal(statistics[2], statistics[0])
    with pytest.raises(AssertionError):
        assert_equal(statistics[1], statistics[0])


@pytest.mark.slow
def test_single_weights_leave_every_channel_its_statistics(key):
    config = dataclasses.replace(PRUNED, granularity="weight")
    apart = play(dataclasses.replace(config, interval=LATER), key, 1)[-1]
    together = play(config, key, 1)[-1]
    for name, unit in apart.client["batch_stats"].items():
        for kind, leaf in unit["norm"].items():
            mean = together.client["batch_stats"][name]["norm"][kind]
            np.testing.assert_allclose(mean[0], leaf.mean(axis=0), rtol=1e-6)
    assert_equal(apart.server, together.server)
