"""The models that the bound's constants are estimated at are those of the run."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl.cli import bound
from fedjax_sl.cli.main import main
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.records.checkpoint import Checkpoints
from fedjax_sl.runs.build import prepare
from fedjax_sl.theory.trajectory import batches, models_along
from tests.commands import PERCEPTRON


TINY = [
    *(*PERCEPTRON, "--model.cut", "1"),
    *("--data.num-clients", "3", "--method.cohort-size", "3", "--batch-size", "4"),
    *("--method.interval", "1", "--rounds", "2", "--eval-every", "2"),
    *("--data.train-examples", "60", "--data.test-examples", "20"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and its configuration."""
    folder: Path = tmp_path_factory.mktemp("run") / "run"
    main(["run", *TINY, "--folder", str(folder)])
    return folder, from_json(folder / "config.json")


def test_a_run_that_starts_from_another_s_models_has_them_first(run):
    folder, config = run
    job = prepare(dataclasses.replace(config, seed=1, init_from=str(folder)))
    first = next(models_along(job, [0]))
    stored = Checkpoints(folder / "checkpoints").arrays()
    for stage, parameters in first.server["params"].items():
        for module, leaves in parameters.items():
            for name, found in leaves.items():
                source = stored[f"server/params/{stage}/{module}/{name}"]
                np.testing.assert_array_equal(found, source)


@pytest.mark.slow
def test_nobody_is_absent_from_the_batches_that_gradients_are_taken_of(run):
    _, config = run
    often = {"failure_probability": 0.9, "corruption_probability": 0.9}
    one = batches(prepare(config), 3)
    other = batches(prepare(dataclasses.replace(config, **often)), 3)
    assert (np.asarray(one.weight) > 0).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.index, other.index)


@pytest.mark.slow
def test_the_bound_is_of_the_loss_under_dropout(run, capsys, monkeypatch):
    folder, config = run
    under, rates = bound.under_dropout, []

    def noisier(constants, *points, rate):
        rates.append(rate)
        found = under(constants, *points, rate=rate)
        assert (found.variance >= constants.variance).all()
        return found._replace(variance=1e6 * found.variance)

    monkeypatch.setattr(bound, "under_dropout", noisier)
    main(["bound", "--folder", str(folder)])
    assert rates == [config.method.dropout_rate] and rates[0] > 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "noise" in x)
    assert float(line.strip(" │").split()[-1]) > 100
