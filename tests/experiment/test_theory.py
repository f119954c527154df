"""Theory beside measurement: the bound up to each round, kept with the run."""

import dataclasses

import numpy as np
import pytest

from fedjax_sl.analysis.constants import Estimate
from fedjax_sl.analysis.convergence import Constants, Setting, bound
from fedjax_sl.experiment import figures, theory
from fedjax_sl.experiment.config import FedLPQRun, FedSLRun, to_json
from fedjax_sl.fedsl import FedSLConfig
from tests.commands import refused


CONSTANTS = Constants(2.0, 2.3, np.ones(8), 0.1 * np.ones(8), 0.1 * np.ones(8))
SETTING = Setting(rounds=40, learning_rate=0.05, clients=10, interval=5, cut=2)
FOUND = Estimate(CONSTANTS, np.array([8.0, 4.0, 3.0]))


def run_with(ratio):
    method = FedSLConfig(prune_ratio=ratio)
    return FedSLRun(rounds=40, method=method).resolved()


def test_each_round_has_the_bound_of_the_rounds_before_it():
    """The ratio grows over half of the run, and so does its mean."""
    config = run_with(0.4)
    ratio = theory.ratios(config)
    assert len(ratio) == 40 and ratio[0] == 0 and ratio[-1] == pytest.approx(0.4)
    found = theory.theory_of(config, SETTING, [0, 20, 40], FOUND)
    for place, rounds in enumerate(found.rounds):
        mean = float(ratio[:rounds].mean())
        here = SETTING._replace(rounds=rounds, pruned=mean, masked=mean)
        terms = bound(CONSTANTS, here)
        assert found.bound[place] == pytest.approx(terms.total)
        rest = terms.total - terms.pruning - terms.masking
        assert found.unpruned[place] == pytest.approx(rest)
    np.testing.assert_allclose(found.running_mean, [8.0, 6.0])


def test_without_pruning_the_bound_only_falls():
    found = theory.theory_of(run_with(0.0), SETTING, [0, 20, 40], FOUND)
    assert (np.diff(found.bound) < 0).all()
    assert found.bound == found.unpruned


def test_it_is_kept_with_the_run_and_drawn(tmp_path):
    found = theory.theory_of(run_with(0.4), SETTING, [0, 20, 40], FOUND)
    assert theory.read(tmp_path) is None
    theory.write(found, tmp_path)
    assert theory.read(tmp_path) == found
    drawn = figures.svg(figures.theory(found)).decode()
    assert "constants estimated" in drawn and "mean squared gradient" in drawn
    (tmp_path / "bound.json").write_text('{"points": []}')
    with pytest.raises(ValueError, match=r"bound\.json: expected what `bound` writes"):
        theory.read(tmp_path)


def test_a_folder_that_has_no_bound(tmp_path, capsys):
    assert "config.json" in refused(["bound", "--folder", tmp_path], capsys)
    config = dataclasses.replace(FedLPQRun(), rounds=2)
    (tmp_path / "config.json").write_text(to_json(config))
    assert "expected a run of fedsl" in refused(["bound", "--folder", tmp_path], capsys)
