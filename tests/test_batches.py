"""Batches are sweeps whose programs are compiled once, in whichever batch they come."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl import Batches, sweep
from fedjax_sl.federation.clients import vmap
from fedjax_sl.fedsl import FedSLConfig, fedsl
from tests.worlds import assert_close, tiny_cohort, tiny_model


EXAMPLE = Path(__file__).parents[1] / "examples/optuna_batches.py"


@pytest.mark.slow
def test_batches_of_a_method_are_its_sweep(key, compiled):
    """Two structures; each batch has other numbers of them, and the last is short."""
    traced, cohort = [], tiny_cohort(key, clients=3)
    usual = FedSLConfig(cohort_size=3, interval=1, prune_ratio=0.0)

    def run(cohort, config):
        traced.append(config.granularity)
        algorithm = fedsl(tiny_model(), config)
        state, metrics = algorithm.round(algorithm.init(key), cohort, key)
        return state.server["params"], metrics.loss

    configs = [
        dataclasses.replace(
            usual,
            learning_rate=0.01 * (n + 1),
            granularity="weight" if n in (1, 4, 5, 6) else "filter",
        )
        for n in range(11)
    ]
    batches = Batches(run, shared=(cohort,))
    found, once = batches(configs[:4]), len(traced)
    assert set(traced) == {"weight", "filter"}
    compiled.clear()
    found += batches(configs[4:8]) + batches(configs[8:])
    # Neither traced nor compiled again.
    assert len(traced) == once and not compiled
    for one, other in zip(found, sweep(lambda c: run(cohort, c), configs), strict=True):
        assert_close(one, other, tolerance=1e-5)


@pytest.mark.parametrize("at_a_time", [None, 1, 3, 16])
@pytest.mark.parametrize("mapping", [None, vmap])
def test_results_come_in_order_from_programs_compiled_once(
    at_a_time, mapping, compiled
):
    batches = Batches(
        lambda shift, x: shift + 2 * x.sum(),
        shared=(np.float32(1),),
        at_a_time=at_a_time,
        over_points=mapping,
    )
    for batch, count in enumerate((5, 1, 7)):
        if batch == 1:
            compiled.clear()
        points = [np.full(1 + n % 2, n, np.float32) for n in range(count)]
        assert batches(points) == [1 + 2 * n * (1 + n % 2) for n in range(count)]
    assert not compiled


def test_what_cannot_be_run_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Batches(lambda x: x)([])
    with pytest.raises(ValueError, match="at_a_time=0: expected"):
        Batches(lambda x: x, at_a_time=0)


def test_64_trials_of_optuna_compile_once_a_structure(compiled, capsys):
    """The example's own study and loop, of runs that take no time."""
    optuna = pytest.importorskip("optuna")
    example = runpy.run_path(str(EXAMPLE))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    traced, counts = [], []

    def run(config):
        traced.append(config.granularity)
        return -abs(config.learning_rate - 0.02) - config.prune_ratio

    batches = Batches(run)

    def counted(points):
        found = batches(points)
        counts.append((len(traced), len(compiled)))
        return found

    example["search"](
        study, lambda t: example["suggest"](t, 10), counted, trials=64, batch=16
    )
    assert len(counts) == 4 and len(study.trials) == 64
    assert set(traced) == {"filter", "weight"}
    # Both structures are in the first batch; afterwards nothing is compiled.
    assert counts[0] == counts[-1]
    values = [t.value for t in study.trials]
    told = [
        -abs(t.params["learning_rate"] - 0.02) - t.params["prune_ratio"]
        for t in study.trials
    ]
    np.testing.assert_allclose(values, told, rtol=1e-5)
    assert capsys.readouterr().out.count("trials: best") == 4


@pytest.mark.slow
def test_the_example_finds_settings_that_learn(monkeypatch, capsys):
    pytest.importorskip("optuna")
    words = ["optuna_batches.py", "--trials", "8", "--batch", "4", "--rounds", "40"]
    monkeypatch.setattr("sys.argv", words)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert float(said.splitlines()[1].split()[-1]) > 0.5
