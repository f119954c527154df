"""Parallel split learning: clients keep their own models, which are never averaged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.data.cohort import normalize
from fedjax_sl.evaluation import evaluate_views
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.estimates.traffic import at_rounds, most
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.traffic import sizes_of
from fedjax_sl.models.split import SplitParams
from fedjax_sl.traffic import traffic
from tests.test_reductions import OFF, batch_of, gradients, halves, sgd
from tests.worlds import (
    assert_close,
    assert_equal,
    programs,
    tiny_cohort,
    tiny_dataset,
    tiny_model,
)


OWN = FedSLConfig(
    cohort_size=4,
    interval=2,
    learning_rate=0.05,
    prune_ratio=0.5,
    prune_end=0,
    importance="magnitude",
    dropout_rate=0.2,
    client_update="local",
)
WHOLE = dataclasses.replace(OFF, client_update="local")
LATER = 10
"""A period that ends after the rounds of these tests."""


def played(config, key, cohorts):
    """The states before and after each round, and the metrics."""
    init, round = programs()
    states, found = [init(config, key)], []
    for number, cohort in enumerate(cohorts):
        own = jax.random.fold_in(key, number)
        state, metrics = round(config, states[-1], cohort, own)
        states.append(state)
        found.append(metrics)
    return states, found


def cohorts_of(key, count):
    return [tiny_cohort(jax.random.fold_in(key, n)) for n in range(count)]


def without(cohort, k):
    return cohort._replace(num_examples=cohort.num_examples.at[k].set(0))


def slot(tree, k):
    return jax.tree.map(lambda x: x[k], tree)


@pytest.mark.slow
def test_each_client_and_the_server_take_plain_steps(key):
    """Round after round, though I = 1: there is no aggregation."""
    cohorts = cohorts_of(key, 2)
    (start, *_, end), _ = played(WHOLE, key, cohorts)
    model, (received, server) = tiny_model(), halves(start)
    clients = [received] * 4
    for cohort in cohorts:
        grads = [
            gradients(model, clients[k], server, batch_of(cohort, k)) for k in range(4)
        ]
        clients = [sgd(c, g[0]) for c, g in zip(clients, grads, strict=True)]
        mean = jax.tree.map(lambda *g: sum(g) / 4, *[g[1] for g in grads])
        server = sgd(server, mean)
    for k, client in enumerate(clients):
        assert_close(halves(end, k), (client, server), 1e-4)
    with pytest.raises(AssertionError):
        assert_close(halves(end, 0)[0], halves(end, 1)[0], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("server_update", ["merged", "sequential"])
def test_it_is_the_averaged_method_before_its_first_average(server_update, key):
    """Pruned and with dropout, and so is what is sent."""
    config = dataclasses.replace(
        OWN, interval=LATER, server_update=server_update, bits=32
    )
    cohorts = cohorts_of(key, 3)
    (*_, found), mine = played(config, key, cohorts)
    averaged = dataclasses.replace(config, client_update="parallel")
    (*_, usual), theirs = played(averaged, key, cohorts)
    assert_close(usual, found._replace(received=None), 1e-6)
    assert_equal(traffic(theirs[-1].links), traffic(mine[-1].links))
    assert_close(theirs[-1].loss, mine[-1].loss)


@pytest.mark.slow
def test_of_one_client_it_is_the_averaged_method(key):
    config = dataclasses.replace(WHOLE, cohort_size=1, momentum=0.9)
    cohorts = [tiny_cohort(key, clients=1)] * 3
    (*_, found), _ = played(config, key, cohorts)
    averaged = dataclasses.replace(config, client_update="parallel")
    (*_, usual), _ = played(averaged, key, cohorts)
    assert_close((usual.client, usual.server), (found.client, found.server), 1e-6)


def test_a_model_goes_down_once_and_none_goes_up(key):
    """To whom is absent then, when it first takes part in a period from its start."""
    late = [without(cohort, 2) for cohort in cohorts_of(key, 3)]
    _, found = played(OWN, key, [*late, *cohorts_of(key, 5)])
    down = np.array([metrics.links.model_down.entries for metrics in found])
    size = sizes_of(OWN, tiny_model()).params
    expected = np.zeros((8, 4), int)
    expected[0, [0, 1, 3]] = expected[4, 2] = size
    np.testing.assert_array_equal(down, expected)
    for metrics in found:
        bits = traffic(metrics.links)
        assert not bits.updates_up.any()
        assert (bits.gradients_down[:2] > 0).all() and (bits.labels_up[:2] > 0).all()
    assert not any(traffic(m.links).model_down[[0, 1, 3]].any() for m in found[1:])


def test_the_bound_covers_every_round(key):
    _, found = played(OWN, key, cohorts_of(key, 4))
    kinds = most(tiny_model(), OWN, np.full(4, 5), batch_size=5)
    bound = at_rounds(kinds, np.arange(4), 2)
    assert not bound.traffic.updates_up.any()
    for number, metrics in enumerate(found):
        for link, bits in traffic(metrics.links)._asdict().items():
            assert (bits <= getattr(bound.traffic, link)[number]).all(), link


def test_a_client_takes_its_model_to_another_slot(key):
    """And draws what it would have drawn there."""
    order = jnp.array([2, 0, 3, 1])
    cohorts = cohorts_of(key, 4)
    turned = [
        cohort._replace(
            client_id=cohort.client_id[order],
            index=cohort.index[order],
            weight=cohort.weight[order],
        )
        for cohort in cohorts[2:]
    ]
    (*_, usual), _ = played(OWN, key, cohorts)
    (*_, found), _ = played(OWN, key, [*cohorts[:2], *turned])
    for name in ("client", "client_opt", "mask"):
        moved = jax.tree.map(lambda x: x[order], getattr(usual, name))
        assert_close(moved, getattr(found, name), 1e-5)
    assert_close(usual.server, found.server, 1e-5)


def test_an_absent_client_keeps_its_model(key):
    """Also past the end of a period, when others would average theirs."""
    cohorts = cohorts_of(key, 5)
    states, _ = played(OWN, key, [cohorts[0], *(without(c, 2) for c in cohorts[1:])])
    assert_equal(slot(states[1].client, 2), slot(states[-1].client, 2))
    assert_equal(slot(states[1].client_opt, 2), slot(states[-1].client_opt, 2))
    with pytest.raises(AssertionError):
        assert_equal(slot(states[1].client, 1), slot(states[-1].client, 1))


def test_each_prunes_by_its_own_weights(key):
    """Whose large filters are others' prunes others."""
    states, _ = played(OWN, key, cohorts_of(key, 2))
    state, (_, round) = states[-1], programs()
    params = state.client["params"]
    kernel = 10 * params["stage_01"]["conv"]["kernel"][0]
    rolled = jnp.stack([jnp.roll(kernel, k, axis=-1) for k in range(4)])
    conv = {**params["stage_01"]["conv"], "kernel": rolled}
    params = {**params, "stage_01": {**params["stage_01"], "conv": conv}}
    state = state._replace(client={**state.client, "params": params})
    after, _ = round(OWN, state, tiny_cohort(key), key)
    kept = np.asarray(after.mask["stage_01"]["conv"]["bias"])
    for k in range(4):
        np.testing.assert_array_equal(kept[k], np.roll(kept[0], k))
    assert kept[0].any() and (kept[0] != kept[1]).any()


@pytest.mark.slow
def test_what_was_pruned_for_good_stays_0_in_its_model_alone(key):
    config = dataclasses.replace(OWN, restore=False, importance="random", bits=32)
    states, _ = played(config, key, cohorts_of(key, 5))
    alive = []
    for k in range(4):
        gone = False
        for state in states[1:]:
            gone |= ~np.asarray(state.mask["stage_01"]["conv"]["kernel"][k])
        kernel = states[-1].client["params"]["stage_01"]["conv"]["kernel"][k]
        gone = np.broadcast_to(gone, kernel.shape)
        assert gone.any() and not kernel[gone].any()
        alive.append(kernel != 0)
    assert any((alive[0] != other).any() for other in alive[1:])


@pytest.mark.slow
def test_accuracy_is_the_mean_over_the_clients_own_models(key):
    states, _ = played(OWN, key, cohorts_of(key, 3))
    state, data = states[-1], tiny_dataset()
    # So far apart that they are right about different images.
    halves = state.client, state.server
    client, server = jax.tree.map(lambda x: jax.random.normal(key, x.shape), halves)
    state = state._replace(client=client, server=server)
    algorithm = fedsl(tiny_model(), OWN, num_clients=4)
    found = jax.jit(lambda state: evaluate_views(algorithm, state, data))(state)
    image, masks = normalize(data.image), state.mask
    for view in ("", "pruned"):
        right, losses = [], []
        for k in range(4):
            params = slot(state.client["params"], k)
            if view:
                mask = slot(masks, k)
                params = jax.tree.map(
                    lambda keep, x: x if keep is None else x * keep,
                    mask,
                    params,
                    is_leaf=lambda x: x is None,
                )
            own = SplitParams({"params": params}, state.server)
            logits = tiny_model().predict(own, image)
            right.append(np.mean(np.asarray(logits.argmax(-1)) == data.label))
            picked = jax.nn.log_softmax(logits)[np.arange(len(image)), data.label]
            losses.append(-picked.mean())
        assert len(set(right)) > 1
        np.testing.assert_allclose(found[view].accuracy, np.mean(right), rtol=1e-5)
        np.testing.assert_allclose(found[view].loss, np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize(
    "field",
    [
        {"proximal": 0.1},
        {"clip_norm": 1.0},
        {"trim": 0.1},
        {"max_update_norm": 1.0},
        {"average_over": "keepers"},
        {"mask_scope": "common"},
        {"updates": CompressorConfig(kind="top_k")},
        {"models": CompressorConfig(kind="qsgd")},
        {"aggregator": AggregatorConfig(kind="adam")},
    ],
    ids=lambda field: next(iter(field)),
)
def test_what_concerns_a_mean_of_models_is_refused(field):
    (name,) = field
    with pytest.raises(ValueError, match=rf"^{name}[.=].*client_update='local'"):
        dataclasses.replace(OWN, bits=32, **field)


def test_models_that_would_be_lost_are_refused():
    said = "cohort_size=4: expected 6, all clients, with client_update='local'"
    with pytest.raises(ValueError, match=said):
        FedSLRun(method=OWN, data=DataConfig(num_clients=6))
    with pytest.raises(ValueError, match=said):
        fedsl(tiny_model(), OWN, num_clients=6)


def test_it_is_called_parallel_split_learning():
    assert FedSLRun(method=WHOLE, data=DataConfig(num_clients=4)).title == "PSL"
    run = FedSLRun(method=OWN, data=DataConfig(num_clients=4))
    assert run.title == "compressed PSL" and run.sequential == "nothing"
