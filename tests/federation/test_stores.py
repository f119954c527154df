"""Residuals on the host are those on the device, of which only a cohort's are there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation import stores
from fedjax_sl.federation.faults import skip_empty_rounds
from fedjax_sl.federation.memory import check_fits
from fedjax_sl.fedlpq import fedlpq
from fedjax_sl.fedsl import fedsl
from tests.fedlpq.test_fedlpq import EXACT, SHAPE, TwoBlocks, cohort_of
from tests.fedsl.test_updates import PLAIN
from tests.worlds import assert_equal, tiny_cohort, tiny_model


FEEDBACK = CompressorConfig(kind="sign", feedback="error")
CLIENTS = 37
"""No other array has so many rows."""


def of_fedsl(residuals):
    config = dataclasses.replace(PLAIN, updates=FEEDBACK, prune_ratio=0.3)
    return fedsl(
        tiny_model(),
        config,
        num_clients=CLIENTS,
        residuals=residuals,
    )


def of_fedlpq(residuals):
    config = dataclasses.replace(EXACT, updates=FEEDBACK, cohort_size=2)
    return fedlpq(
        TwoBlocks(),
        config,
        num_clients=CLIENTS,
        input_shape=SHAPE,
        residuals=residuals,
    )


METHODS = {
    "fedsl": (of_fedsl, lambda key, ids: tiny_cohort(key, ids=ids)),
    "fedlpq": (of_fedlpq, lambda key, ids: cohort_of(key, tuple(ids[:2]))),
}
each = pytest.mark.parametrize("name", METHODS)


def played(algorithm: Algorithm, key, cohorts):
    """The state after two rounds of each cohort."""
    state, step = jax.jit(algorithm.init)(key), jax.jit(algorithm.round)
    for number, cohort in enumerate(cohorts):
        for twice in range(2):
            own = jax.random.fold_in(key, 2 * number + twice)
            state, metrics = step(state, cohort, own)
    return state, metrics


@pytest.mark.slow
@each
def test_they_are_the_same_to_the_bit(name, key):
    make, cohort = METHODS[name]
    cohorts = [cohort(key, ids) for ids in ([3, 9, 30, 7], [9, 36, 0, 2])]
    here, ours = played(make("device"), key, cohorts)
    there, theirs = played(make("host"), key, cohorts)
    assert_equal(here, there)
    assert_equal(ours, theirs)
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(there.residual))


@each
def test_only_they_lie_on_the_host(name, key):
    make, cohort = METHODS[name]
    state, _ = played(make("host"), key, [cohort(key, [3, 9, 30, 7])])
    kept = jax.tree.leaves(state.residual)
    assert {leaf.sharding.memory_kind for leaf in kept} == {stores.HOST}
    rest = jax.tree.leaves(state._replace(residual=None))
    assert {leaf.sharding.memory_kind for leaf in rest} == {"device"}


def values_of(jaxpr):
    """The types of all values of a program, those of its parts too."""
    for equation in jaxpr.eqns:
        yield from (variable.aval for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from values_of(inner)


def rows_on_the_device(algorithm, key, cohort):
    """Values of a round on the device with a row for every client."""
    state = jax.jit(algorithm.init)(key)
    program = jax.make_jaxpr(algorithm.round)(state, cohort, key)
    return [
        value
        for value in values_of(program.jaxpr)
        if getattr(value, "shape", ())[:1] == (CLIENTS,)
        and value.ndim > 1
        and value.memory_space != jax.memory.Space.Host
    ]


@pytest.mark.slow
@each
def test_no_value_on_the_device_has_a_row_for_every_client(name, key):
    make, cohort = METHODS[name]
    some = cohort(key, [3, 9, 30, 7])
    found = rows_on_the_device(make("device"), key, some)
    assert len(found) > 3
    heads = [value for value in found if value.shape == (CLIENTS, 0)]
    left = rows_on_the_device(make("host"), key, some)
    assert [value.shape for value in left] == [value.shape for value in heads]


@pytest.mark.slow
def test_a_round_without_clients_leaves_them(key):
    make, cohort = METHODS["fedlpq"]
    algorithm, some = skip_empty_rounds(make("host")), cohort(key, [3, 9, 30, 7])
    before, _ = played(algorithm, key, [some])
    empty = some._replace(num_examples=jnp.zeros_like(some.num_examples))
    after, _ = jax.jit(algorithm.round)(before, empty, key)
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(before.residual))
    assert_equal(before.residual, after.residual)
    assert after.round == before.round + 1
    # The heads have rows, too, but no entries here.
    left = rows_on_the_device(algorithm, key, empty)
    assert not any(value.size for value in left)


def test_what_does_not_fit_on_a_device_may_fit_on_the_host(monkeypatch):
    monkeypatch.setattr("fedjax_sl.federation.memory.device_bytes", lambda: 1000)
    monkeypatch.setattr("fedjax_sl.federation.memory.host_bytes", lambda: 5000)
    words = {"clients": 9, "what": "residuals", "instead": "none"}
    check_fits(4000, store="host", **words)
    for takes, store in ((4000, "device"), (6000, "host")):
        with pytest.raises(ValueError, match=f"take {takes} bytes"):
            check_fits(takes, store=store, **words)
