"""Pruned channels of the last client layer do not cross the cut."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.analysis.complexity import cut_costs
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.traffic import expected
from fedjax_sl.fedsl.thin_cut import channels_at_cut
from fedjax_sl.models.network import network
from fedjax_sl.models.options import Options
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.vgg import vgg
from fedjax_sl.traffic import traffic
from tests.worlds import assert_close, played, programs, tiny_cohort, tiny_model


BATCH, PIXELS, CHANNELS, CLIENTS = 5, 16, 6, 4
CONFIG = FedSLConfig(
    cohort_size=CLIENTS,
    interval=3,
    prune_shape="constant",
    dropout_rate=0.0,
    scoring="running",
    learning_rate=0.02,
)


def up_and_down(key, config, rounds=2):
    """Values at the cut of each client and round, up and down; and the last state."""
    state, found = played(key, config, rounds)
    at_cut = [
        np.stack([np.asarray(link(metrics.links).entries) for metrics in found])
        for link in (lambda x: x.activations_up, lambda x: x.gradients_down)
    ]
    return *at_cut, state


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.35, 0.5, 0.9])
def test_the_kept_share_is_sent(key, ratio):
    """ceil((1 - rho) C) of C channels, both ways, where nothing is dropped."""
    up, down, _ = up_and_down(key, dataclasses.replace(CONFIG, prune_ratio=ratio))
    kept = math.ceil(round((1 - ratio) * CHANNELS, 6))
    np.testing.assert_array_equal(up, BATCH * PIXELS * kept)
    np.testing.assert_array_equal(down, up)


@pytest.mark.slow
def test_a_dense_count_is_had_on_request_and_with_single_weights(key):
    pruned = dataclasses.replace(CONFIG, prune_ratio=0.5)
    for change in ({"thin_cut": False}, {"granularity": "weight"}):
        up, down, _ = up_and_down(key, dataclasses.replace(pruned, **change))
        assert (up == BATCH * PIXELS * CHANNELS).all() and (down == up).all()


def test_the_dropout_mask_takes_its_share_of_what_is_left(key):
    config = dataclasses.replace(CONFIG, prune_ratio=0.5, dropout_rate=0.4)
    up, _, _ = up_and_down(key, config, rounds=6)
    left = BATCH * PIXELS * CHANNELS / 2
    assert up.max() < left
    deviation = math.sqrt(0.24 / (left * up.size))
    assert up.mean() / left == pytest.approx(0.6, abs=5 * deviation)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_nothing_but_the_traffic_depends_on_it(key, norm):
    """The channels are zeros, and their gradients end at the mask: same models."""
    config = dataclasses.replace(CONFIG, prune_ratio=0.5, dropout_rate=0.3)
    init, round = programs(tiny_model(norm=norm))
    ends = []
    for thin in (True, False):
        one = dataclasses.replace(config, thin_cut=thin)
        state = init(one, key)
        for number in range(3):
            cohort = tiny_cohort(key)
            state, _ = round(one, state, cohort, jax.random.fold_in(key, number))
        ends.append((state.client, state.server))
    assert_close(*ends)


def test_it_is_planned_as_it_is_counted(key):
    config = dataclasses.replace(CONFIG, prune_ratio=0.35, scoring="running")
    _, found = played(key, config, 2)
    planned = expected(tiny_model(), config, batch_size=BATCH).traffic
    counted = [traffic(metrics.links) for metrics in found]
    for name in ("activations_up", "gradients_down"):
        for kind, one in zip((2, 0), counted, strict=True):
            got, plan = getattr(one, name), getattr(planned, name)[kind]
            np.testing.assert_array_equal(got, plan)


@pytest.mark.slow
def test_the_bitmap_of_dropped_values_is_as_thin(key):
    config = dataclasses.replace(
        CONFIG, prune_ratio=0.5, dropout_rate=0.2, dropout_mask="bitmap"
    )
    _, found = played(key, config, 2)
    later = found[1].links.activations_up.side
    np.testing.assert_array_equal(later, BATCH * PIXELS * CHANNELS // 2)


@pytest.mark.slow
@pytest.mark.parametrize(("per", "draws"), [("element", PIXELS), ("channel", 1)])
def test_a_bitmap_has_a_bit_for_each_draw(key, per, draws):
    """Clients 0 and 2 drop nothing, and send none."""
    config = dataclasses.replace(
        CONFIG,
        prune_ratio=0.0,
        dropout_rate=(0.0, 0.5),
        dropout_mask="bitmap",
        dropout_per=per,
    )
    _, found = played(key, config, 2)
    for metrics in found:
        expected_bits = BATCH * draws * CHANNELS * np.array([0, 1, 0, 1])
        np.testing.assert_array_equal(metrics.links.activations_up.side, expected_bits)


@pytest.mark.slow
def test_the_table_of_cuts_counts_what_is_sent():
    network = vgg(11, Options(width=0.25))
    dense, thin = cut_costs(network), cut_costs(network, prune_ratio=0.35)
    for all_of_it, kept in zip(dense, thin, strict=True):
        share = kept.activations / all_of_it.activations
        channels = {16: 11, 32: 21, 64: 42, 128: 84}
        assert share in {kept / whole for whole, kept in channels.items()}


@pytest.mark.slow
def test_what_is_not_one_channel_each_is_sent_whole(key):
    flat = network(
        (nn.Conv(3, (3, 3)), lambda x: x.reshape(len(x), -1), nn.Dense(2)),
        input_shape=(4, 4, 2),
        num_classes=2,
    )
    for cut, sent in ((1, [1, 0, 1]), (2, [1] * 48)):
        model = flat.at(cut)
        params = model.init(key).client["params"]
        mask = jax.tree.map(lambda x: jnp.arange(3) != 1, params)
        kept = channels_at_cut(CONFIG, prunable(model), mask, model.cut_shape()[-1])
        np.testing.assert_array_equal(kept, sent)
