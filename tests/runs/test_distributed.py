"""Several processes give what one gives, and only the first one writes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.runs.distributed import Cluster
from tests.commands import PATIENCE, PERCEPTRON


SMALL = [
    *("fedlpq", *PERCEPTRON, "--data.num-clients", "5", "--method.cohort-size", "5"),
    *("--rounds", "2", "--eval-every", "1", "--data.train-examples", "500"),
    *("--batch-size", "50", "--method.learning-rate", "0.01"),
    *("--method.bits", "32", "--method.optimizer", "sgd"),
]
"""Five clients divide by neither two processes nor their four devices.

The order of sums is all that may differ: a quantiser may draw a level the other way for
it, and Adam divides it by gradients near zero, so neither has a part.
"""

ATOL = 1e-3


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(arguments, devices):
    """A process with so many CPU devices."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedjax_sl.cli.main", "run", *arguments],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def two_processes(folders, *options):
    """Exit code, output and errors of two processes with two devices each."""
    port = free_port()
    started = [
        start(
            [
                *(*SMALL, "--folder", str(folder), "--distributed", *options),
                *("--coordinator", f"localhost:{port}"),
                *("--processes", "2", "--rank", str(rank)),
            ],
            devices=2,
        )
        for rank, folder in enumerate(folders)
    ]
    return [finish(process) for process in started]


def record(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def parameters(folder):
    """Those of the last checkpoint, by name."""
    names = ("state", "progress")
    with ocp.CheckpointManager(folder / "checkpoints", item_names=names) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore())
        arrays = manager.restore(manager.latest_step(), args=items)["state"]
    return {k: v for k, v in arrays.items() if k.startswith("variables/params")}


def assert_close(folder, other):
    """Summation order is all that differs."""
    pairs = zip(record(folder), record(other), strict=True)
    for found, expected in pairs:
        for name in ("train_loss", "test_loss", "kept_ratio"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
        for name in ("uplink_bits", "downlink_bits"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    found, expected = parameters(folder), parameters(other)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=ATOL, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    alone = start([*SMALL, "--folder", str(tmp_path / "alone")], devices=4)
    code, _, err = finish(alone)
    assert code == 0, err
    first, second = two_processes([tmp_path / "first", tmp_path / "second"])
    assert first[0] == 0, first[2]
    assert second[0] == 0, second[2]
    assert "test accuracy" in first[1]
    assert "accuracy" not in second[1]
    assert not (tmp_path / "second").exists()
    assert_close(tmp_path / "first", tmp_path / "alone")
    summary = json.loads((tmp_path / "first/summary.json").read_text())
    assert summary["device"].startswith("4 x ")

    longer = ["--resume", "--rounds", "3"]
    first, second = two_processes([tmp_path / "alone"] * 2, *longer)
    assert [first[0], second[0]] == [0, 0], (first, second)
    code, _, err = finish(
        start([*SMALL, *longer, "--folder", str(tmp_path / "first")], 4)
    )
    assert code == 0, err
    assert len(record(tmp_path / "first")) == 3
    assert_close(tmp_path / "first", tmp_path / "alone")


@pytest.mark.slow
def test_what_the_first_refuses_stops_all(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.tex").write_text("years of work")
    first, second = two_processes([tmp_path / "taken", tmp_path / "other"])
    assert [first[0], second[0]] == [2, 2]
    assert "holds no run" in first[2]
    assert "process 0 refused" in second[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"distributed": False, "coordinator": "host:1"},
            "expected with --distributed",
        ),
        ({"distributed": True, "rank": 0}, "expected all three, or none"),
        ({"coordinator": "host", "processes": 1, "rank": 0}, "expected HOST:PORT"),
        ({"coordinator": "host:99999", "processes": 1, "rank": 0}, "HOST:PORT"),
        ({"coordinator": "h:1", "processes": 0, "rank": 0}, "expected at least 1"),
        ({"coordinator": "h:1", "processes": 2, "rank": 2}, "rank=2: expected 0 to 1"),
        ({"coordinator": "h:1", "processes": 2, "rank": -1}, "rank=-1"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Cluster(**({"distributed": "coordinator" in options} | options))


def test_without_others_to_be_found_it_says_what_to_give(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--folder", str(tmp_path / "run"), "--distributed"])
    assert stop.value.code == 2
    assert "give --coordinator, --processes and --rank" in capsys.readouterr().err
