"""Privacy as counted from a run's folder."""

import dataclasses
import json
import sys

import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.records.run_folder import append_lines
from fedjax_sl.traffic import Traffic
from tests.commands import refused


ROUND = {
    "client_id": [0, 2],
    **{f"{link}_bits": [8, 8] for link in Traffic._fields},
    **{f"{link}_side_bits": [0, 0] for link in Traffic._fields},
    "client_macs": [1.0, 1.0],
    "server_macs": [1.0, 1.0],
}


@pytest.fixture
def folder(tmp_path):
    """The record of four rounds, with updates after every second one."""
    method = FedSLConfig(cohort_size=2, clip_norm=1.0, noise_multiplier=3.0)
    config = FedSLRun(data=DataConfig(num_clients=20), method=method)
    (tmp_path / "config.json").write_text(to_json(config))
    append_lines(
        tmp_path / "rounds.jsonl",
        [{**ROUND, "round": t, "updates_up_bits": [9 * (t % 2)] * 2} for t in range(4)],
    )
    append_lines(tmp_path / "metrics.jsonl", [{"round": 4, "test_accuracy": 0.5}])
    return tmp_path


def test_it_is_counted_from_the_record(folder, capsys):
    main(["privacy", str(folder)])
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if line.split()[:1] == [folder.name])
    assert row.split()[1:5] == ["3", "2/20", "2", "2"]
    models, poisson, messages = map(float, row.split()[5:])
    assert 0 < poisson < models <= messages
    assert (
        "activations, labels, gradients at the cut and masks are sent unprotected"
        in said
    )


def test_labels_that_stay_at_home_are_not_sent(folder, capsys):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["tail"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    main(["privacy", str(folder)])
    said = capsys.readouterr().out
    assert "activations, features, gradients at the cut and masks are sent" in said


def test_rounds_of_the_run_that_it_began_from_are_said_not_to_be_in_it(folder, capsys):
    """They may have been of the same clients, and without noise."""
    main(["privacy", str(folder)])
    assert "began" not in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    config["init_from"] = "runs/warm"
    (folder / "config.json").write_text(json.dumps(config))
    main(["privacy", str(folder)])
    said = f"{folder.name}: without the rounds of runs/warm, from whose models it began"
    assert said in capsys.readouterr().out


def test_without_noise_nothing_is_promised(folder, capsys):
    config = json.loads((folder / "config.json").read_text())
    config["method"]["noise_multiplier"] = None
    (folder / "config.json").write_text(json.dumps(config))
    main(["privacy", str(folder)])
    assert capsys.readouterr().out.count("∞") == 3


def test_what_makes_no_sense_is_refused(folder, capsys, monkeypatch):
    assert "delta=1.0" in refused(["privacy", folder, "--delta", "1"], capsys)
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    said = refused(["privacy", folder], capsys)
    assert "need dp-accounting: pip install 'fedjax-sl[privacy]'" in said


@pytest.mark.parametrize("name", ["eval_every", "rounds"])
def test_what_is_not_privatized_is_not_evaluated(name):
    """Between two aggregations there is only the mean of the clients' own models."""
    method = FedSLConfig(clip_norm=1.0, noise_multiplier=3.0, interval=5)
    fitting = {"eval_every": 10, "rounds": 20}
    FedSLRun(method=method, **fitting).resolved()
    run = FedSLRun(method=method, **{**fitting, name: 12})
    with pytest.raises(ValueError, match=f"{name}=12 with noise_multiplier=3.0"):
        run.resolved()
    quiet = dataclasses.replace(method, noise_multiplier=None)
    dataclasses.replace(run, method=quiet).resolved()
