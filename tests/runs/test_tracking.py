"""Other tools are told what metrics.jsonl says."""

import re
import struct
import sys
import types
from pathlib import Path

import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.errors import InputError
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import read_lines
from fedjax_sl.runs.tracking import Tracking, _wandb
from tests.commands import PERCEPTRON


PAGE = Path(__file__).parents[2] / "docs/howto/wandb.md"

QUICK = [
    *("run", "fedlpq", *PERCEPTRON, "--batch-size", "50", "--eval-every", "1"),
    *("--data.num-clients", "3", "--method.cohort-size", "2"),
    *("--data.train-examples", "200", "--data.test-examples", "50"),
]


def events_of(folder):
    """`{(name, round): value}` of all event files, read without their writer."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


@pytest.mark.slow
def test_event_files_hold_every_figure(tmp_path):
    folder = tmp_path / "run"
    main([*QUICK, "--rounds", "1", "--folder", str(folder), "--tensorboard"])
    main(
        [
            *QUICK[:2],
            "--resume",
            "--rounds",
            "2",
            "--folder",
            str(folder),
            "--tensorboard",
        ]
    )
    lines, events = read_lines(folder / "metrics.jsonl"), events_of(folder / "events")
    assert len(lines) == 2
    for line in lines:
        done = line.pop("round")
        for name, value in line.items():
            assert events.pop((name, done)) == pytest.approx(value, rel=1e-6)
    assert not events


def test_weights_and_biases_is_told(tmp_path, monkeypatch):
    """Its own client needs an account; what it is called with is what can be seen."""
    told = []
    run = types.SimpleNamespace(
        log=lambda line, step: told.append((step, line)),
        finish=lambda: told.append("finished"),
    )

    def init(**options):
        told.append(options)
        return run

    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace()
    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    folder = tmp_path / "run"
    main([*QUICK, "--rounds", "1", "--folder", str(folder), "--wandb", "thesis"])
    (line,) = read_lines(folder / "metrics.jsonl")
    assert told[0]["project"] == "thesis"
    assert told[0]["config"]["method"]["bits"] == 10
    assert told[1:] == [(1, line), "finished"]


def test_a_trial_of_an_agent_is_a_run(monkeypatch):
    """The page's sweep.yaml, its first values in the place of ${args}, as W&B does."""
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    described, seen = yaml.safe_load(text), []
    chosen = {
        name: values["values"][0] if "values" in values else values["max"]
        for name, values in described["parameters"].items()
    }
    program, *words = map(str, described["command"])
    assert program == described["program"] == "fedjax-sl" and words.pop() == "${args}"
    words += [f"--{name}={value}" for name, value in chosen.items()]

    def prepared(config):
        seen.append(config)
        raise InputError("enough.")

    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    sys.modules["wandb"].__spec__ = types.SimpleNamespace()
    monkeypatch.setattr("fedjax_sl.cli.run.prepare", prepared)
    with pytest.raises(SystemExit):
        main(words)
    (config,) = seen
    method = config.method
    found = (method.bits, method.prune_ratio, method.learning_rate)
    assert found == tuple(chosen.values()) == (4, 0.5, 0.1)
    assert config.data.held_out == 300
    assert described["metric"]["name"] == "test_accuracy"


def test_runs_below_long_paths_are_told_apart(tmp_path, monkeypatch):
    """W&B takes 64 characters of an identity, which a resumed run has to find again."""
    found = []
    module = types.ModuleType("wandb")
    nothing = types.SimpleNamespace(log=None, finish=lambda: None)
    module.init = lambda **options: found.append(options["id"]) or nothing
    monkeypatch.setitem(sys.modules, "wandb", module)
    config = presets()["fedlpq"][1].run
    for above in ("one", "two", "one"):
        folder = tmp_path / above / ("x" * 70)
        with _wandb("thesis", folder, config):
            pass
    assert found[0] == found[2] != found[1]
    assert max(map(len, found)) <= 64


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("fedjax_sl.runs.tracking.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        Tracking(wandb="thesis")
