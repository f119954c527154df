"""SCAFFOLD: rounds against a plain loop, the law of the controls, and their price."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fedjax_sl.algorithm import Batch
from fedjax_sl.compression.layers import leaves_of, unit_of
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.federation.control_variates import effective_steps
from fedjax_sl.federation.server_pass import mean_loss
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.estimates.memory import control_bytes
from fedjax_sl.fedlpq.estimates.traffic import most
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.traffic import traffic
from tests.fedlpq.test_fedlpq import (
    BATCH,
    EXACT,
    SHAPE,
    STEPS,
    N,
    TwoBlocks,
    cohort_of,
)
from tests.fedlpq.test_updates import rounds
from tests.worlds import assert_close, assert_equal, batches_of
from tests.worlds import cohort_of as cohort_from


SCAFFOLD = dataclasses.replace(EXACT, control_variates=True, momentum=0.0)
SOME = (0, 1, 4), (4, 2, 1), (5, 0, 3)


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def added(tree, other, factor=1.0):
    return jax.tree.map(lambda a, b: a + factor * b, tree, other)


@jax.jit
def gradient(params, rest, batch):
    def loss(params):
        logits, changed = TwoBlocks().apply(
            {**rest, "params": params},
            batch.image,
            True,
            batch.weight,
            mutable=["batch_stats"],
        )
        return mean_loss(logits, batch), changed

    return jax.grad(loss, has_aux=True)(params)


def weighted_gradients(gradients, momentum):
    """The mean of a client's gradients, each as often as its momentum repeats it."""
    repeats = [
        sum(momentum**i for i in range(len(gradients) - j))
        for j in range(len(gradients))
    ]
    total = zeros_like(gradients[0])
    for factor, own in zip(repeats, gradients, strict=True):
        total = added(total, own, factor / sum(repeats))
    return total


def by_hand(variables, cohorts, rate, momentum):
    """Algorithm 1 of the paper in a loop; a control is a mean of plain gradients."""
    params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
    server, clients = zeros_like(params), [zeros_like(params)] * N
    for cohort in cohorts:
        ends, moved = [], zeros_like(params)
        batches = batches_of(cohort)
        for slot, client in enumerate(np.asarray(cohort.client_id)):
            own, velocity, gradients = params, zeros_like(params), []
            for step in range(STEPS):
                batch = jax.tree.map(lambda x, k=slot, s=step: x[k, s], batches)
                if not batch.weight.any():
                    continue
                # In training mode, statistics are of the batch: the kept ones do not
                # enter the gradient.
                grad, _ = gradient(own, rest, batch)
                gradients.append(grad)
                corrected = added(added(grad, clients[client], -1), server)
                velocity = added(corrected, velocity, momentum)
                own = added(own, velocity, -rate)
            ends.append(own)
            renewed = weighted_gradients(gradients, momentum)
            moved = added(moved, added(renewed, clients[client], -1))
            clients[client] = renewed
        params = jax.tree.map(lambda *own: sum(own) / len(own), *ends)
        server = added(server, moved, 1 / N)
    return params, server, clients


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_rounds_are_those_of_a_plain_loop(key, momentum):
    """A client has one batch less: its steps are counted, not the cohort's."""
    config = dataclasses.replace(SCAFFOLD, cohort_size=3, momentum=momentum)
    counts = [STEPS * BATCH, STEPS * BATCH - BATCH, STEPS * BATCH]
    cohorts = [cohort_of(key, ids=ids, counts=counts) for ids in SOME]
    states, _ = rounds(config, key, cohorts)
    expected = by_hand(states[0].variables, cohorts, config.learning_rate, momentum)
    last = states[-1]
    assert_close(last.variables["params"], expected[0], tolerance=2e-5)
    assert_close(last.control, expected[1], tolerance=2e-5)
    for client, own in enumerate(expected[2]):
        mine = jax.tree.map(lambda x, k=client: x[k], last.controls)
        assert_close(mine, own, tolerance=2e-4)


@pytest.mark.slow
def test_without_controls_yet_the_first_round_is_that_of_fedavg(key):
    cohorts = [cohort_of(key)] * 2
    plain, _ = rounds(dataclasses.replace(EXACT, momentum=0.0), key, cohorts)
    states, _ = rounds(SCAFFOLD, key, cohorts)
    assert_close(states[1].variables, plain[1].variables, tolerance=0)
    gap = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), states[2].variables, plain[2].variables
    )
    assert max(jax.tree.leaves(gap)) > 1e-4


@pytest.mark.slow
def test_the_servers_control_is_the_mean_of_all_clients(key):
    """With layers left out, clipped updates, and a client whose update is rejected."""
    config = dataclasses.replace(SCAFFOLD, cohort_size=3, clip_norm=0.5)
    config = dataclasses.replace(config, keep_probability=0.5)
    cohorts = [cohort_of(key, ids=ids) for ids in SOME]
    image = cohorts[1].examples.image
    # Images of the client in the middle, whose update is then not finite.
    bad = cohorts[1].index[1].ravel()
    examples = cohorts[1].examples._replace(image=image.at[bad].set(jnp.nan))
    cohorts[1] = cohorts[1]._replace(examples=examples)
    states, metrics = rounds(config, key, cohorts)
    before, after = states[1], states[2]
    for state in states:
        mean = jax.tree.map(lambda x: x.mean(axis=0), state.controls)
        assert_close(state.control, mean, tolerance=1e-5)

    def changed(client):
        old, new = leaves_of(before.controls), leaves_of(after.controls)
        return {
            unit_of(path, "module"): bool(
                (old[path][client] != new[path][client]).any()
            )
            for path in old
        }

    # Of the second cohort 4 and 1 take part, the client in between is rejected; of the
    # layers of each some are not sent.
    assert not any(changed(SOME[1][1]).values())
    assert not any(changed(0).values())
    both = [changed(client) for client in (SOME[1][0], SOME[1][2])]
    assert {flag for each in both for flag in each.values()} == {True, False}


class Linear(nn.Module):
    """Logistic regression."""

    @nn.compact
    def __call__(self, x, train, weight=None):
        return nn.Dense(3, name="fc")(x.reshape(x.shape[0], -1))


def test_clients_that_disagree_do_not_drift(key):
    """FedAvg's local steps end off the optimum of the mean loss; SCAFFOLD's do not."""
    clients, steps, size = 4, 8, 12
    image = jax.random.normal(key, (clients, size, 2, 2, 1))
    rows = jnp.arange(clients)[:, None]
    # Each client has labels of its own kind.
    label = jnp.where(image.sum(axis=(2, 3, 4)) > 0, rows % 3, (rows + 1) % 3)
    batches = Batch(
        jnp.repeat(image[:, None], steps, axis=1),
        jnp.repeat(label[:, None], steps, axis=1),
        jnp.ones((clients, steps, size)),
    )
    cohort = cohort_from(tuple(range(clients)), batches, jnp.full(clients, size))

    def of_mean(params):
        whole = Batch(
            image.reshape(-1, 2, 2, 1), label.reshape(-1), jnp.ones(clients * size)
        )
        return mean_loss(Linear().apply({"params": params}, whole.image, False), whole)

    def slope(control_variates):
        config = FedLPQConfig(
            cohort_size=clients,
            bits=32,
            keep_probability=1.0,
            optimizer="sgd",
            learning_rate=0.3,
            momentum=0.0,
            control_variates=control_variates,
        )
        made = fedlpq(Linear(), config, num_clients=clients, input_shape=(2, 2, 1))
        state, step = jax.jit(made.init)(key), jax.jit(made.round)
        for number in range(150):
            state, _ = step(state, cohort, jax.random.fold_in(key, number))
        leaves = jax.tree.leaves(jax.grad(of_mean)(state.variables["params"]))
        return float(sum((leaf**2).sum() for leaf in leaves) ** 0.5)

    assert slope(True) < 1e-4 < 1e-2 < slope(False)


@pytest.mark.slow
@pytest.mark.parametrize("models", [{}, dict(kind="uniform", bits=5)])
def test_they_cost_a_second_network_down_and_nothing_up(key, models):
    models = CompressorConfig(**models)
    plain = dataclasses.replace(EXACT, models=models, keep_probability=0.5)
    config = dataclasses.replace(plain, control_variates=True)
    cohorts = [cohort_of(key)]
    (state, _), ours = rounds(config, key, cohorts)
    _, theirs = rounds(plain, key, cohorts)
    ours, theirs = traffic(ours.links), traffic(theirs.links)
    params = sum(x.size for x in jax.tree.leaves(state.variables["params"]))
    extra = ours.model_down - theirs.model_down
    np.testing.assert_array_equal(extra, np.full(N, 32 * params))
    np.testing.assert_array_equal(ours.updates_up, theirs.updates_up)
    bound = most(TwoBlocks(), SHAPE, config, np.full(N, STEPS * BATCH)).traffic
    assert (bound.model_down >= ours.model_down).all()


def test_memory_is_that_of_the_state(key):
    made = fedlpq(TwoBlocks(), SCAFFOLD, num_clients=N, input_shape=SHAPE)
    state = jax.eval_shape(made.init, key)
    kept = sum(4 * leaf.size for leaf in jax.tree.leaves(state.controls))
    assert control_bytes(TwoBlocks(), SHAPE, SCAFFOLD, num_clients=N) == kept > 0
    assert control_bytes(TwoBlocks(), SHAPE, EXACT, num_clients=N) == 0


@pytest.mark.slow
def test_kept_by_the_host_they_are_the_same(key):
    config = dataclasses.replace(SCAFFOLD, cohort_size=3)
    found = []
    for store in ("device", "host"):
        made = fedlpq(
            TwoBlocks(), config, num_clients=N, input_shape=SHAPE, residuals=store
        )
        state, step = jax.jit(made.init)(key), jax.jit(made.round)
        for number, ids in enumerate(SOME):
            own = jax.random.fold_in(key, number)
            state, _ = step(state, cohort_of(key, ids=ids), own)
        found.append(state)
    assert_equal(*found)


def test_a_client_without_a_step_keeps_its_control(key):
    config = dataclasses.replace(SCAFFOLD, cohort_size=3)
    cohorts = [
        cohort_of(key, ids=SOME[0]),
        cohort_of(key, ids=SOME[0], counts=[8, 0, 8]),
    ]
    states, _ = rounds(config, key, cohorts)
    for old, new in zip(
        *(jax.tree.leaves(state.controls) for state in states[1:]), strict=True
    ):
        np.testing.assert_array_equal(old[SOME[0][1]], new[SOME[0][1]])
        assert (old[0] != new[0]).any() and np.isfinite(new).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_effective_steps_are_the_way_along_a_constant_gradient(momentum):
    way = velocity = 0.0
    for step in range(1, 8):
        velocity = momentum * velocity + 1.0
        way += velocity
        found = effective_steps(jnp.int32(step), momentum)
        np.testing.assert_allclose(found, way, rtol=1e-5)
    assert effective_steps(jnp.int32(0), momentum) == 0


@pytest.mark.parametrize(
    "options",
    [
        dict(optimizer="adam"),
        dict(preference="3"),
        dict(noise_multiplier=1.0, clip_norm=1.0),
        dict(bits=(32, 8)),
        dict(client_weight="examples"),
        dict(trim=0.2),
    ],
)
def test_where_a_control_is_no_gradient_it_is_refused(options):
    name = next(iter(options))
    with pytest.raises(InputError, match=f"{name}=.* with control_variates: expected"):
        dataclasses.replace(SCAFFOLD, **options)


def test_coded_updates_are_refused():
    """Their error would grow from round to round, as the control adds it up."""
    top = CompressorConfig(kind="top_k", keep=0.1)
    with pytest.raises(InputError, match="updates.kind='top_k' with control_variates"):
        dataclasses.replace(SCAFFOLD, updates=top)


def test_corrupted_messages_are_refused(key):
    with pytest.raises(InputError, match="corruption_probability=0.1: expected 0 with"):
        FedLPQRun(method=SCAFFOLD, corruption_probability=0.1)
    cohort = cohort_of(key)._replace(fault=jnp.ones(N))
    with pytest.raises(InputError, match="corrupted messages with control_variates"):
        rounds(SCAFFOLD, key, [cohort])


def test_another_optimiser_is_refused():
    with pytest.raises(InputError, match="optimizer with control_variates: expected n"):
        fedlpq(
            TwoBlocks(), SCAFFOLD, num_clients=N, input_shape=SHAPE, optimizer=optax.sgd
        )


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "SCAFFOLD"),
        ({"aggregator": AggregatorConfig(kind="adam")}, "FedAdam, control variates"),
        ({"proximal": 0.1}, "FedProx, control variates"),
        ({"keep_probability": 0.5}, "FedLP, control variates"),
    ],
)
def test_its_title(options, title):
    method = dataclasses.replace(SCAFFOLD, **options)
    assert FedLPQRun(method=method).title == title
