"""With everything off, FedSL is a method that can be written down in a few lines."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.global_model import global_model
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.state import ORDER
from tests.worlds import (
    assert_close,
    assert_equal,
    batches_of,
    joined_loss,
    programs,
    tiny_cohort,
    tiny_model,
)


RATE = 0.1
OFF = FedSLConfig(
    cohort_size=4,
    interval=1,
    learning_rate=RATE,
    momentum=0.0,
    prune_ratio=0.0,
    bits=32,
    dropout_rate=0.0,
)


def rounds(model, config, cohort, key, count=1):
    init, round = programs(model)
    before = state = init(config, key)
    for number in range(count):
        state, _ = round(config, state, cohort, jax.random.fold_in(key, number))
    return before, state


@partial(jax.jit, static_argnums=0)
def gradients(model, client, server, batch):
    """Of the uncut network's loss, in both halves."""
    loss = partial(joined_loss, model)
    return jax.grad(loss, argnums=(0, 1))(client, server, batch)


def batch_of(cohort, k):
    return jax.tree.map(lambda x: x[k, 0], batches_of(cohort))


def sgd(params, grads, rate=RATE):
    return jax.tree.map(lambda p, g: p - rate * g, params, grads)


def halves(state, k=0):
    return jax.tree.map(lambda x: x[k], state.client["params"]), state.server["params"]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_one_round_is_one_sgd_step_on_the_joined_network(key, cut):
    model, cohort = tiny_model(cut), tiny_cohort(key)
    before, after = rounds(model, OFF, cohort, key)
    each = [gradients(model, *halves(before), batch_of(cohort, k)) for k in range(4)]
    grads = jax.tree.map(lambda *g: sum(g) / 4, *each)
    assert_close(halves(after), sgd(halves(before), grads))
    assert_close(global_model(after).client["params"], halves(after)[0])


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 3])
def test_one_client_with_momentum_is_sgd_with_momentum(key, cut):
    model, cohort = tiny_model(cut), tiny_cohort(key, clients=1)
    config = dataclasses.replace(OFF, cohort_size=1, momentum=0.9)
    before, after = rounds(model, config, cohort, key, count=3)
    params, trace = halves(before), jax.tree.map(jnp.zeros_like, halves(before))
    for _ in range(3):
        grads = gradients(model, *params, batch_of(cohort, 0))
        trace = jax.tree.map(lambda t, g: 0.9 * t + g, trace, grads)
        params = sgd(params, trace)
    assert_close(halves(after), params, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [None, 0.7])
def test_local_steps_between_aggregations_are_local_sgd(key, mu):
    """With a proximal term they are FedProx's, on the clients' half."""
    model, cohort = tiny_model(), tiny_cohort(key)
    config = dataclasses.replace(OFF, interval=2, proximal=mu)
    before, after = rounds(model, config, cohort, key, count=2)
    received, server = halves(before)
    clients = [received] * 4

    def pulled(client, grad):
        return jax.tree.map(
            lambda g, w, w0: g + (mu or 0) * (w - w0), grad, client, received
        )

    for _ in range(2):
        grads = [
            gradients(model, clients[k], server, batch_of(cohort, k)) for k in range(4)
        ]
        clients = [sgd(c, pulled(c, g[0])) for c, g in zip(clients, grads, strict=True)]
        mean = jax.tree.map(lambda *g: sum(g) / 4, *[g[1] for g in grads])
        server = sgd(server, mean)
    mean = jax.tree.map(lambda *c: sum(c) / 4, *clients)
    assert_close(halves(after), (mean, server), tolerance=1e-4)


@pytest.mark.slow
def test_a_single_step_from_the_averaged_model_is_not_proximal(key):
    """It starts where the term is least, and so the option is idle."""
    model, cohort = tiny_model(), tiny_cohort(key)
    found = []
    for mu in (None, 0.7):
        config = dataclasses.replace(OFF, interval=1, proximal=mu)
        found.append(rounds(model, config, cohort, key, count=2)[1])
        assert "proximal" in FedSLRun(method=config).idle
    assert_equal(*map(halves, found))
    longer = dataclasses.replace(OFF, interval=2, proximal=0.7)
    assert "proximal" not in FedSLRun(method=longer).idle


def visiting_order(cohort, key):
    keys = client_keys(jax.random.fold_in(key, 0), cohort.client_id, ORDER)
    return [int(k) for k in jnp.argsort(jax.vmap(jax.random.uniform)(keys))]


@pytest.mark.slow
@pytest.mark.parametrize("relay", [False, True])
def test_a_server_that_steps_after_each_client(key, relay):
    model, cohort = tiny_model(), tiny_cohort(key)
    config = dataclasses.replace(
        OFF,
        server_update="sequential",
        client_update="relay" if relay else "parallel",
    )
    before, after = rounds(model, config, cohort, key)
    start, server = halves(before)
    client, ends = start, []
    for k in visiting_order(cohort, key):
        held = client if relay else start
        grads = gradients(model, held, server, batch_of(cohort, k))
        client, server = sgd(held, grads[0]), sgd(server, grads[1])
        ends.append(client)
    expected = client if relay else jax.tree.map(lambda *c: sum(c) / 4, *ends)
    for k in range(4):
        assert_close(halves(after, k), (expected, server), tolerance=1e-4)


def test_the_two_server_versions_differ(key):
    model, cohort = tiny_model(), tiny_cohort(key)
    ends = [
        rounds(model, dataclasses.replace(OFF, server_update=update), cohort, key)[1]
        for update in ("merged", "sequential")
    ]
    with pytest.raises(AssertionError):
        assert_close(halves(ends[0]), halves(ends[1]))
