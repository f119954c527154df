"""A method runs on a program's own arrays as on any data set."""

import dataclasses
import subprocess
import sys

import pytest

from fedjax_sl import methods
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records.finished_run import read
from fedjax_sl.runs.own_data import run_on
from fedjax_sl.runs.recorder import Keeping
from tests.commands import PATIENCE
from tests.methods.fedavgm import SPEC
from tests.worlds import tiny_dataset


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A method that is compiled in no time."""
    monkeypatch.setitem(methods._registered, "fedavgm", SPEC)


def ran(folder, rounds=2, data=None, train=None, **options):
    usual = next(iter(SPEC.presets.values())).run
    config = dataclasses.replace(
        usual, data=DataConfig(num_clients=4, **(data or {})), rounds=rounds
    )
    train = train or tiny_dataset()
    options = {"test": train} | options
    return run_on(config, folder, train=train, quiet=True, **options)


def test_it_leaves_the_folder_of_any_run(tmp_path):
    summary = ran(tmp_path / "run")
    found = read(tmp_path / "run")
    assert summary["train_examples"] == 48 and found.lines[-1]["round"] == 2
    assert found.config.data.name == "tiny" and found.config.data.image_size == 8


@pytest.mark.slow
def test_it_is_resumed_on_the_same_data_alone(tmp_path):
    again = {"keeping": Keeping(resume=True), "rounds": 4}
    ran(tmp_path / "run")
    data = tiny_dataset()
    other = dataclasses.replace(data, label=data.label[::-1].copy())
    with pytest.raises(InputError, match="the train examples have changed"):
        ran(tmp_path / "run", train=other, test=data, **again)
    assert ran(tmp_path / "run", **again)["final"]["round"] == 4
    with pytest.raises(InputError, match="holds a run already"):
        ran(tmp_path / "run")


def test_its_options_choose_among_the_examples(tmp_path):
    options = {"held_out": 8, "train_examples": 30}
    summary = ran(tmp_path / "run", data=options, test=None)
    assert (summary["train_examples"], summary["test_examples"]) == (30, 8)
    with pytest.raises(InputError, match="held_out=None: expected some"):
        ran(tmp_path / "none", test=None)


BLOCKED = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
"""
FIVE_LINES = """
train = Dataset.from_arrays(image, label, name="mine")
test = Dataset.from_arrays(image[:40], label[:40], class_names=train.class_names)
data = DataConfig(num_clients=3)
config = FedLPQRun(data=data, model=CNNConfig(name="mlp"), method=method, rounds=1)
print(run_on(config, folder, train=train, test=test, quiet=True)["train_examples"])
"""


@pytest.mark.slow
def test_arrays_become_a_run_without_tensorflow(tmp_path):
    """Neither TensorFlow nor TFDS can be imported."""
    before = f"""
import numpy as np
from fedjax_sl import Dataset, FedLPQConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.runs.own_data import run_on

method, folder = FedLPQConfig(cohort_size=3), {str(tmp_path / "run")!r}
image = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
label = np.arange(60) % 4
"""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + before + FIVE_LINES],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "60" and len(FIVE_LINES.strip().split("\n")) == 5
    assert (tmp_path / "run" / "summary.json").exists()
