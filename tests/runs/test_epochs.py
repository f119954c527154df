"""An epoch is as many real examples as there are, whoever is absent or padded."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.records.metrics import answers_in
from fedjax_sl.records.run_folder import METRICS, ROUNDS, read_lines
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.run import run
from fedjax_sl.runs.tracking import Tracking


FEW = DataConfig(num_clients=4, train_examples=40, test_examples=20)
SPLIT = FedSLRun(
    data=FEW,
    model=ModelConfig(name="mlp", cut=1, width=0.05),
    method=FedSLConfig(cohort_size=4, interval=2, prune_ratio=0.0),
    rounds=4,
    eval_every=2,
    batch_size=64,
)
LAYERS = FedLPQRun(
    data=FEW,
    model=CNNConfig(name="mlp", width=0.05),
    method=FedLPQConfig(cohort_size=4, local_epochs=2),
    rounds=2,
    eval_every=1,
    batch_size=7,
)


def ran(config):
    """Lines of metrics.jsonl and of rounds.jsonl."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run(
            prepare(config),
            folder,
            console=Console(quiet=True),
            keeping=Keeping(),
            tracked=Tracking(),
        )
        return tuple(read_lines(folder / file) for file in (METRICS, ROUNDS))


@pytest.mark.slow
def test_padding_is_no_data():
    lines, rounds = ran(SPLIT)
    assert [line["epoch"] for line in lines] == pytest.approx([2.0, 4.0])
    assert (answers_in(rounds) == 4).all()
    some = dataclasses.replace(SPLIT, batch_size=8)
    assert ran(some)[0][-1]["epoch"] == pytest.approx(4 * 4 * 8 / 40)


@pytest.mark.parametrize("config", [SPLIT, LAYERS], ids=["fedsl", "fedlpq"])
def test_who_is_absent_trains_on_nothing(config):
    """In FedSL a label is sent for each example; every client owns ten of forty."""
    lines, rounds = ran(dataclasses.replace(config, failure_probability=0.5))
    here = np.array([np.array(line["client_macs"]) > 0 for line in rounds])
    assert here.any() and not here.all()
    times = 2 if config is LAYERS else 1
    assert lines[-1]["epoch"] == pytest.approx(times * here.sum() / 4)
    if config is SPLIT:
        labels = sum(sum(line["labels_up_bits"]) for line in rounds) / 4
        assert lines[-1]["epoch"] == pytest.approx(labels / 40)


def test_what_is_owned_decides_what_is_trained_on():
    owned = np.array([0, 3, 64, 100])
    assert (SPLIT.trained_on(owned) == [0, 3, 64, 64]).all()
    assert (LAYERS.trained_on(owned) == 2 * owned).all()
