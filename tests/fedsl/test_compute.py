"""What is computed is what is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.compute import kept_macs, work
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.models import cifar_cnn, split_vgg
from fedjax_sl.models.cost import macs
from fedjax_sl.models.prunable import prunable
from fedjax_sl.traffic import record_of
from tests.worlds import played, programs, tiny_cohort, tiny_model


CONFIG = FedSLConfig(
    cohort_size=4, interval=2, learning_rate=0.05, prune_ratio=0.5, prune_end=0
)


@pytest.mark.slow
def test_the_published_share_of_a_pruned_vgg(key):
    """VGG-19 cut after 4: 35 % of the filters leave 0.4348 of 96.14 M."""
    model = split_vgg(19, cut=4)
    can, dense = prunable(model), macs(model.client, model.input_shape)
    assert dense == pytest.approx(96.14e6, rel=1e-4)
    scores = magnitude_scores(model.init(key).client["params"])
    share = kept_macs(CONFIG, can, masks(CONFIG, can, scores, 0.35)) / dense
    np.testing.assert_allclose(share, 0.4348, atol=1e-4)


def test_what_is_kept_is_counted_whole(key):
    """Most shares of the filters are rounded in float32."""
    model = split_vgg(11, cut=1, width=0.17)
    can = prunable(model)
    scores = magnitude_scores(model.init(key).client["params"])
    for ratio in (0.2, 0.35, 0.5, 0.7):
        found = kept_macs(CONFIG, can, masks(CONFIG, can, scores, ratio))
        assert found == int(found)


@pytest.mark.slow
def test_scoring_costs_a_dense_pass_when_a_period_starts(key):
    config = dataclasses.replace(CONFIG, scoring="pass")
    _, (first, second) = played(key, config)
    model = tiny_model()
    dense = 5 * macs(model.client, model.input_shape)
    server = 5 * macs(model.server, model.cut_shape())
    np.testing.assert_allclose(first.work.client - second.work.client, dense, rtol=1e-6)
    assert (second.work.client < 0.7 * dense).all()
    np.testing.assert_allclose(first.work.server, 2 * server)
    np.testing.assert_allclose(second.work.server, server)
    assert (first.links.labels_up.entries == 2 * second.links.labels_up.entries).all()


def test_large_batches_through_large_networks_are_counted():
    """More MACs than 31 bits can tell, in the scoring pass as in the step."""
    model, examples = split_vgg(19, cut=16), jnp.array([10, 0])
    dense = macs(model.client, model.input_shape)
    assert 10 * dense > 2**31
    done = work(CONFIG, model, examples, scored=examples)
    np.testing.assert_allclose(done.client, [20 * dense, 0], rtol=1e-6)


@pytest.mark.slow
def test_nothing_is_scored_where_nothing_is_pruned(key):
    dense = dataclasses.replace(CONFIG, prune_ratio=0.0)
    _, (first, second) = played(key, dense)
    np.testing.assert_array_equal(first.work.client, second.work.client)
    np.testing.assert_array_equal(
        first.links.labels_up.entries, second.links.labels_up.entries
    )
    model = tiny_model()
    assert first.work.client[0] == 5 * macs(model.client, model.input_shape)


def test_a_padded_example_is_not_computed(key):
    cohort = tiny_cohort(key)
    weight = cohort.weight.at[1, 0, 3:].set(0.0)
    init, round = programs()
    _, metrics = round(CONFIG, init(CONFIG, key), cohort._replace(weight=weight), key)
    np.testing.assert_allclose(metrics.work.client[1], metrics.work.client[0] * 3 / 5)


@pytest.mark.slow
def test_layer_wise_clients_train_all_they_have(key):
    """Epochs x examples x multiplications, whatever is sent; the server does none."""
    config = FedLPQConfig(cohort_size=4, keep_probability=0.1, optimizer="sgd")
    model = cifar_cnn(width=0.1, num_classes=3)
    algorithm = fedlpq(model, config, num_clients=4, input_shape=(8, 8, 2))
    _, metrics = jax.jit(algorithm.round)(algorithm.init(key), tiny_cohort(key), key)
    np.testing.assert_allclose(metrics.work.client, 5 * macs(model, (8, 8, 2)))
    assert not metrics.work.server.any()
    rounds = jax.tree.map(lambda x: jnp.asarray(x)[None], metrics)
    assert record_of(rounds).client_macs.shape == (1, 4)
