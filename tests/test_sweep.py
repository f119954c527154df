"""A sweep is its runs, one compilation for each structure."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.federation import clients
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.sweep import results, sweep
from tests.footprint import footprint, settle
from tests.worlds import assert_close, tiny_cohort, tiny_model


CONFIG = FedSLConfig(cohort_size=3, interval=1, learning_rate=0.05, prune_ratio=0.0)


def points_of(key):
    """Two rates and two bit widths by weight, two seeds by filter, in mixed order."""
    by_weight = dataclasses.replace(CONFIG, granularity="weight")
    other = jax.random.fold_in(key, 1)
    return [
        (by_weight, key),
        (CONFIG, key),
        (dataclasses.replace(by_weight, learning_rate=0.1), key),
        (CONFIG, other),
        (dataclasses.replace(by_weight, bits=3), key),
    ]


def run_counting(traces, cohort):
    def run(point):
        config, key = point
        traces.append(config.granularity)
        algorithm = fedsl(tiny_model(), config)
        state, metrics = algorithm.round(algorithm.init(key), cohort, key)
        return state.server["params"], metrics.loss

    return run


def test_a_sweep_is_its_runs_in_order(key):
    traces, cohort, points = [], tiny_cohort(key, clients=3), points_of(key)
    results = sweep(run_counting(traces, cohort), points)
    assert set(traces) == {"filter", "weight"}
    single = jax.jit(run_counting([], cohort))
    for point, result in zip(points, results, strict=True):
        assert_close(result, single(point), tolerance=1e-4)
    losses = [np.asarray(result[1]).tolist() for result in results]
    assert losses[1] != losses[3]


@pytest.mark.parametrize("mapping", [clients.scan, clients.vmap])
def test_each_structure_is_compiled_once(key, mapping):
    compiled = []

    def run(point):
        rate, width = point
        compiled.append(width["cells"].shape)
        return rate * width["cells"].sum()

    size = 12
    points = [(0.1 * n, {"cells": np.ones(1 + n % 2, np.float32)}) for n in range(size)]
    found = sweep(run, points, over_points=mapping)
    expected = [0.1 * n * (1 + n % 2) for n in range(size)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    traces = [compiled.count(shape) for shape in ((1,), (2,))]
    assert sum(traces) == len(compiled)
    assert all(1 <= count <= 2 for count in traces)  # a scan looks at shapes first


def test_results_come_in_calls_of_one_program():
    traced = []

    def run(point):
        traced.append(point)
        return 2 * point

    found = results(run, [0.5, 1, 1.5, 2.5, 3.5], at_a_time=2, over_points=clients.vmap)
    assert next(found) == (0, 1.0)
    assert len(traced) == 1
    assert dict(found) == {2: 3.0, 3: 5.0, 4: 7.0, 1: 2}
    assert len(traced) == 2  # the whole number is a program of its own


def test_no_points_at_a_time():
    with pytest.raises(ValueError, match="at_a_time=0: expected at least 1"):
        next(results(lambda x: x, [1.0], at_a_time=0))


def test_no_points():
    with pytest.raises(ValueError, match="at least one"):
        sweep(lambda point: point, [])


@pytest.mark.slow
def test_programs_of_a_sweep_are_let_go(key):
    """Of 40 structures the last is reached with as little as the second."""
    structures, client = 40, jax.local_devices()[0].client

    def run(shared, point):
        rate, _, images = point
        return rate * (images @ shared).sum()

    points = [
        (0.1 * n, key, np.ones((n, 7), np.float32))
        for n in range(1, 1 + structures)
        for _ in range(3)
    ]
    shared = (np.ones(7, np.float32),)
    programs, taken = [], []
    for place, result in results(run, points, shared=shared, at_a_time=2):
        np.testing.assert_allclose(result, 7 * points[place][0] ** 2 * 10, rtol=1e-5)
        if place % 3 == 2:
            programs.append(len(client.live_executables()))
        if place in (5, 3 * structures - 1):
            settle()
            taken.append(footprint())
    assert len(programs) == structures and max(programs) == programs[1]
    second, last = taken
    assert last.maps < second.maps + structures
    assert last.resident < second.resident + 1e6 * structures
