"""Before a run trains it says what; once its pace is known, for how long."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.federation.clients import scan
from fedjax_sl.fedlpq.run_config import CNNConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.runs import forecast
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.forecast import forecasting
from fedjax_sl.runs.headline import headline
from tests import dry
from tests.methods.fedavgm import FedAvgMRun, build


def test_the_first_line_of_a_run(tmp_path, monkeypatch, capsys):
    dry.use(monkeypatch)
    options = [*dry.OPTIONS, "--rounds", "6", "--folder", str(tmp_path / "run")]
    main(["run", *options])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("FedLP-Q: FedLP's CNN of width 0.05 (")
    # Each of three in four clients trains for an epoch on what it owns.
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert first.endswith(
        " parameters), 4 clients, 4.5 epochs (6 rounds) of digits (300 images, 100 to "
        f"test on), on {devices}"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # Of ten each; a batch of 64 has no more of them.
        ({"rounds": 3}, ", 3 epochs (3 rounds)"),
        ({"rounds": 3, "failure_probability": 0.5}, ", about 1.5 epochs (3 rounds)"),
    ],
)
def test_epochs_are_of_what_clients_own(changes, said):
    data = DataConfig(num_clients=4, train_examples=40, test_examples=20)
    model = ModelConfig(name="mlp", cut=1, width=0.05)
    method = FedSLConfig(cohort_size=4)
    config = FedSLRun(data=data, model=model, method=method, batch_size=64, **changes)
    assert said in headline(prepare(config))


def test_epochs_are_not_known_of_some_clients_with_unequal_shares():
    job = prepare(FedSLRun(model=ModelConfig(name="mlp", cut=1, width=0.05)))
    few = job.partition.count.copy()
    few[0] = 3
    fewer = job._replace(partition=job.partition._replace(count=few))
    assert ", 24.4 epochs (220" in headline(job)
    # 147 instead of 160 in each of 220 rounds.
    assert ", 22.4 epochs (220" in headline(fewer)
    method = dataclasses.replace(job.config.method, cohort_size=5)
    config = dataclasses.replace(job.config, method=method)
    assert ", about 11.2 epochs (220" in headline(fewer._replace(config=config))


def test_every_parameter_of_the_network_is_counted():
    """Of the perceptron by hand: two hidden layers, weights and biases."""
    job = prepare(FedSLRun(model=ModelConfig(name="mlp", width=0.5, cut=1)))
    pixels = int(np.prod(job.train.image.shape[1:]))
    count = (pixels + 1) * 256 + (256 + 1) * 128 + (128 + 1) * 10
    assert job.method.parameters == count
    assert f"perceptron of width 0.5 ({count / 1e6:.2f} M parameters), " in headline(
        job
    )


def test_what_a_method_does_not_tell_is_left_out():
    usual, config = prepare(FedSLRun()), FedAvgMRun()
    method = build(config, usual.train, usual.partition, lambda _: scan)
    job = usual._replace(config=config, method=method)
    assert headline(job).startswith("fedavgm: 10 clients, ")


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (ModelConfig(), "VGG-11 of width 0.25"),
        (ModelConfig(name="resnet18", width=1.0), "ResNet-18"),
        (ModelConfig(module="some/where.py:network"), "where.py:network"),
        (CNNConfig(), "FedLP's CNN"),
        (CNNConfig(name="vit-tiny"), "ViT-Tiny"),
    ],
)
def test_networks_are_named(model, title):
    assert model.title == title


class Clock:
    """A clock that programs advance."""

    def __init__(self, takes):
        self.now, self.takes = 0.0, iter(takes)

    def advance(self, state, first, count):
        self.now += next(self.takes)
        return state, (first, count)


def said(monkeypatch, takes, counts, rounds):
    """What is said of calls that take so many seconds, of so many rounds."""
    clock, sentences, first = Clock(takes), [], 0
    monkeypatch.setattr(forecast.time, "monotonic", lambda: clock.now)
    usual = dry.PROGRAMS._replace(advance=clock.advance)
    programs = forecasting(usual, rounds, sentences.append)
    for count in counts:
        assert programs.advance(None, first, count) == (None, (first, count))
        first += count
    return sentences


def test_how_long_is_said_once_and_not_by_the_call_that_compiles(monkeypatch):
    found = said(monkeypatch, [100, 6, 1], [1, 2, 2], 103)
    assert found == ["about 0:05:00 left for 100 rounds, without evaluations"]
    assert not said(monkeypatch, [100], [1], 103)


def test_short_calls_are_added_up(monkeypatch):
    found = said(monkeypatch, [9, 0.2, 0.2, 0.2], [1, 1, 1, 1], 304)
    assert found == ["about 0:01:00 left for 300 rounds, without evaluations"]


def test_a_run_that_ends_needs_no_forecast(monkeypatch):
    assert not said(monkeypatch, [9, 5], [1, 2], 3)
