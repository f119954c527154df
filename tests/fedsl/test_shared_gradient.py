"""SFL-GA: one mean gradient at the cut, which goes to all clients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation import clients
from fedjax_sl.federation.server_pass import mean_loss
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.cut import AtCut, cut_with_dropout
from fedjax_sl.fedsl.estimates.traffic import at_rounds, most
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.shared_gradient import mean_gradient, number_broadcast
from fedjax_sl.fedsl.suited import suited_map
from fedjax_sl.fedsl.traffic import sizes_of
from fedjax_sl.models.split import apply
from fedjax_sl.traffic import traffic
from tests.fedsl.test_own_models import cohorts_of, played
from tests.test_reductions import OFF, batch_of, halves, sgd
from tests.worlds import (
    assert_close,
    assert_equal,
    batches_of,
    tiny_cohort,
    tiny_model,
    with_batches,
)


GA = dataclasses.replace(OFF, client_update="local", backward="mean")
TECHNIQUES = dataclasses.replace(
    GA, prune_ratio=0.5, prune_end=0, importance="random", bits=8, down_bits=8
)


def own(config):
    return dataclasses.replace(config, backward="own")


@pytest.mark.parametrize("change", [{}, {"prune_ratio": 0.5, "dropout_rate": 0.3}])
def test_of_one_client_it_is_the_plain_method(change, key):
    config = dataclasses.replace(GA, cohort_size=1, importance="random", **change)
    cohorts = [tiny_cohort(key, clients=1)] * 2
    (*_, usual), before = played(own(config), key, cohorts)
    (*_, found), after = played(config, key, cohorts)
    assert_close(usual, found, 1e-6)
    assert_equal(before[-1].links, after[-1].links)


@pytest.mark.slow
def test_of_equal_clients_with_equal_batches_it_is_the_plain_method(key):
    cohort = tiny_cohort(key)
    batches = jax.tree.map(lambda x: jnp.stack([x[0]] * 4), batches_of(cohort))
    cohorts = [with_batches(cohort, batches)] * 2
    (*_, usual), _ = played(own(GA), key, cohorts)
    (*_, found), _ = played(GA, key, cohorts)
    assert_close(usual, found, 1e-6)


@pytest.mark.slow
def test_one_step_of_two_clients_by_hand(key):
    """Of unequal weights, from the chain rule alone."""
    config = dataclasses.replace(GA, cohort_size=2, client_weight="examples")
    cohort = tiny_cohort(key, clients=2)._replace(num_examples=jnp.array([3, 1]))
    (start, end), _ = played(config, key, [cohort])
    model, (received, server) = tiny_model(), halves(start)
    omega, back, found = (0.75, 0.25), [], []
    for k in range(2):
        batch = batch_of(cohort, k)

        def below(params, batch=batch):
            return apply(model.client, {"params": params}, batch.image, train=True)[0]

        def above(params, cut, batch=batch):
            logits, _ = apply(model.server, {"params": params}, cut, train=True)
            return mean_loss(logits, batch)

        cut, pull = jax.vjp(below, received)
        back.append(pull)
        found.append(jax.grad(above, argnums=(0, 1))(server, cut))
    mean = jax.tree.map(lambda x, y: omega[0] * x + omega[1] * y, *found)
    assert_close(halves(end)[1], sgd(server, mean[0]), 1e-5)
    for k, pull in enumerate(back):
        assert_close(halves(end, k)[0], sgd(received, pull(mean[1])[0]), 1e-5)


def test_the_mean_is_over_those_who_sent_the_entry():
    rng = np.random.default_rng(0)
    grad, sent = rng.normal(size=(3, 4, 5)), rng.random((3, 4, 5)) < 0.5
    grad[2], omega = np.nan, np.array([0.6, 0.3, 0.0])
    found = mean_gradient(jnp.asarray(grad), jnp.asarray(sent), jnp.asarray(omega))
    share = (omega[:, None, None] * sent)[:2]
    total = share.sum(axis=0)
    expected = np.where(
        total > 0, (share * grad[:2]).sum(axis=0) / np.where(total > 0, total, 1), 0
    )
    assert (total == 0).any()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_each_client_is_charged_for_the_message_to_all(key):
    """As long as the largest mini-batch, and within the bound."""
    cohort = tiny_cohort(key)
    cohort = cohort._replace(
        weight=cohort.weight.at[1, :, 3:].set(0.0),
        num_examples=cohort.num_examples.at[2].set(0),
    )
    _, (metrics,) = played(dataclasses.replace(GA, down_bits=8), key, [cohort])
    size = sizes_of(GA, tiny_model()).cut
    down, up = metrics.links.gradients_down, metrics.links.activations_up
    assert down.entries.tolist() == [5 * size, 5 * size, 0, 5 * size]
    assert up.entries.tolist() == [5 * size, 3 * size, 0, 5 * size]
    assert not traffic(metrics.links).updates_up.any()
    config = dataclasses.replace(GA, down_bits=8)
    kinds = most(tiny_model(), config, np.array([5, 3, 0, 5]), batch_size=5)
    bound = at_rounds(kinds, np.arange(1), 1).traffic
    for link, bits in traffic(metrics.links)._asdict().items():
        assert (bits <= getattr(bound, link)[0]).all(), link


def test_what_only_a_client_that_is_not_heard_sent_is_not_in_the_message():
    sent = jnp.array([[[True, False]], [[False, True]], [[False, False]]])
    everyone, first = jnp.ones(3, bool), jnp.arange(3) == 0
    assert number_broadcast(sent, everyone).tolist() == [2, 2, 0]
    assert number_broadcast(sent, first).tolist() == [1, 1, 0]


def test_all_clients_are_in_one_group():
    """However they are mapped: a mean over some of them would be another."""
    for over in (clients.scan, clients.chunks(2)):
        assert suited_map(over, tiny_model(), GA).group is None
        assert suited_map(over, tiny_model(), own(GA)).group == over.group


@pytest.mark.slow
def test_it_goes_with_pruning_dropout_and_quantised_messages(key):
    config = dataclasses.replace(TECHNIQUES, dropout_rate=0.3)
    (start, *_, end), found = played(config, key, cohorts_of(key, 3))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(end))
    lengths = found[-1].links.gradients_down.entries
    assert (lengths == lengths[0]).all()
    assert (lengths >= found[-1].links.activations_up.entries).all()
    assert all(np.isfinite(m.loss).all() for m in found)
    with pytest.raises(AssertionError):
        assert_equal(start.client, end.client)


@pytest.mark.parametrize(
    "field",
    [
        {"server_update": "sequential"},
        {"client_update": "relay"},
        {"scoring": "pass", "prune_ratio": 0.5},
        {"cut_gradients": CompressorConfig(kind="qsgd")},
        {"down_bits": (8, 4)},
    ],
    ids=lambda field: next(iter(field)),
)
def test_what_one_message_cannot_be_combined_with_is_refused(field):
    (name, *_) = field
    with pytest.raises(ValueError, match=rf"^{name}[.=].*backward='mean'"):
        dataclasses.replace(GA, **field)


def test_it_is_called_by_its_name():
    assert FedSLRun(method=dataclasses.replace(GA, cohort_size=10)).title == "SFL-GA"
    averaged = FedSLConfig(backward="mean")
    assert FedSLRun(method=averaged).title == "compressed SFL-GA, averaged"


@pytest.mark.slow
def test_padding_receives_no_gradient(key):
    """Where another client has an example, a client with fewer trains on nothing."""
    real = jnp.array([[True] * 5, [True, True, False, False, False]])
    ids = jnp.arange(2)
    cut = cut_with_dropout(
        dataclasses.replace(GA, cohort_size=2),
        client_configs(GA, ids),
        ids,
        key,
        channels=jnp.ones((2, 6), bool),
        real=real,
        weights=jnp.full(2, 0.5),
    )
    at_cut = AtCut(jnp.ones((2, 5, 4, 4, 6), bool), None, jnp.ones(2, bool))
    returned, _ = cut.down(jnp.ones((2, 5, 4, 4, 6)), at_cut)
    np.testing.assert_array_equal(returned.any(axis=(2, 3, 4)), real)
