"""A user's network in a file has all that a named one has."""

import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.models.own_network import own_network
from fedjax_sl.records.finished_run import read
from tests.commands import refused
from tests.interruptions import Killed, killed


MODULE = str(Path("examples/own_network.py:build").resolve())
OPTIONS = [
    *("--model.module", MODULE, "--data.num-clients", "3"),
    *("--method.cohort-size", "2", "--method.interval", "2", "--batch-size", "4"),
    *("--data.test-examples", "50", "--eval-every", "4", "--rounds", "8"),
]
COMPRESSED = [
    *("--method.prune-ratio", "0.5", "--method.prune-end", "0"),
    *("--method.activations.kind", "top_k", "--method.activations.keep", "0.2"),
    *("--method.updates.kind", "qsgd", "--method.updates.bits", "6"),
]


def run(folder, *options):
    main(["run", "fedsl", *OPTIONS, "--folder", str(folder), *options])
    return read(folder)


def same(one, other):
    for a, b in zip(one.lines, other.lines, strict=True):
        del a["wall_seconds"], b["wall_seconds"]
        assert a == b
    np.testing.assert_array_equal(one.record.traffic, other.record.traffic)


@pytest.mark.slow
def test_it_is_pruned_compressed_resumed_compared_reported_and_swept(tmp_path, capsys):
    whole = run(tmp_path / "whole", *COMPRESSED, "--model.cut", "2")
    # Of the channels of a sum half are pruned, and half of those inside a block.
    assert whole.lines[-1]["kept_ratio"] < 0.4
    folder = tmp_path / "parts"
    with pytest.raises(Killed), killed(folder, 60):
        run(folder, *COMPRESSED, "--model.cut", "2")
    same(run(folder, *COMPRESSED, "--model.cut", "2", "--resume"), whole)
    main(["compare", str(tmp_path / "whole"), str(folder)])
    main(["report", str(tmp_path / "whole")])
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "Unpruned share of each layer" in page
    grid = ["--grid", "method.learning_rate=0.01,0.02"]
    main(["sweep", "fedsl", *OPTIONS, *grid, "--folder", str(tmp_path / "sweep")])
    slow, fast = (read(tmp_path / "sweep" / f"run-000{n}") for n in (0, 1))
    assert slow.lines[-1]["train_loss"] != fast.lines[-1]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["1", "3", "5"])
def test_it_is_cut_anywhere(cut, tmp_path):
    dense = ("--method.dropout-rate", "0", "--method.prune-ratio", "0")
    found = run(tmp_path / "run", *dense, "--model.cut", cut, "--rounds", "2")
    # 32 x 32 pixels of 16 channels; a sixteenth of them behind the pooling.
    entries = (32 * 32 if cut == "1" else 8 * 8) * 16
    up = found.record.traffic.activations_up
    assert (up[up > 0] == 32 * 4 * entries).all()


BAD = {
    "there is no file": "missing.py:build",
    "expected 'FILE.py:FUNCTION'": "net.py",
    "has no function nothing": "{file}:nothing",
    "its call with input_shape and num_classes raised": "{file}:of_nothing",
    "it returned a int; expected a list of Flax modules": "{file}:number",
    "raised SyntaxError": "{broken}:build",
    "1 stages: expected 2 to 100": "{file}:short",
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_network_is_refused(said, tmp_path, capsys):
    file, broken = tmp_path / "net.py", tmp_path / "broken.py"
    file.write_text(
        textwrap.dedent("""
        from flax import linen as nn
        def of_nothing(): return []
        def number(input_shape, num_classes): return 3
        def short(input_shape, num_classes): return [nn.Dense(3)]
        """)
    )
    broken.write_text("def build(:")
    module = BAD[said].format(file=file, broken=broken)
    command = ["run", "fedsl", "--model.module", module]
    assert said in refused([*command, "--folder", tmp_path / "run"], capsys)
    assert not (tmp_path / "run").exists()


def test_a_cut_that_it_does_not_have_is_refused(tmp_path, capsys):
    command = ["run", "fedsl", *OPTIONS, "--model.cut", "6"]
    said = refused([*command, "--folder", tmp_path / "run"], capsys)
    assert "cut=6: expected 1, 2, 3, 4 or 5 layers on the client's side" in said


def test_cost_lists_its_cuts(capsys):
    main(["cost", "fedsl", "--module", MODULE, "--pixels", "8"])
    shown = capsys.readouterr().out
    assert [row.split()[0] for row in shown.splitlines() if "1,024" in row] == [*"12"]


SICK = {
    "(2, 7)": "[nn.Conv(4, (3, 3)), lambda x: x.mean(axis=(1, 2)), nn.Dense(7)]",
    "raised TypeError": "[nn.Conv(4, (3, 3)), lambda x: x.reshape(3), nn.Dense(10)]",
    "A stage is 3": "[1 + 2, nn.Dense(10)]",
    "raised InvalidRngError": "[nn.Conv(4, (3, 3)), Dropped(), nn.Dense(10)]",
    "are bfloat16 and float32": "[nn.Conv(4, (3, 3), dtype='bfloat16'), *HEAD]",
    "no layer with weights": "[nn.relu, nn.Conv(4, (3, 3)), *HEAD]",
}


@pytest.mark.parametrize("said", SICK)
def test_what_cannot_be_trained_is_refused(said, tmp_path, capsys):
    file = tmp_path / "net.py"
    file.write_text(
        textwrap.dedent(f"""
        from __future__ import annotations
        from flax import linen as nn

        class Dropped(nn.Module):
            rate: float = 0.5
            @nn.compact
            def __call__(self, x, train):
                x = nn.Dropout(self.rate, deterministic=not train)(x)
                return x.mean(axis=(1, 2))

        HEAD = [lambda x: x.mean(axis=(1, 2)), nn.Dense(10)]

        def build(input_shape, num_classes):
            return {SICK[said]}
        """)
    )
    command = ["run", "fedsl", "--model.module", f"{file}:build", "--model.cut", "1"]
    assert said in refused([*command, "--folder", tmp_path / "run"], capsys)


def test_a_file_called_as_a_package_takes_no_place(tmp_path):
    file = tmp_path / "json.py"
    file.write_text(Path("examples/own_network.py").read_text())
    path = list(sys.path)
    own_network(f"{file}:build", (32, 32, 1), 10)
    assert sys.modules["json"] is json and sys.path == path


@pytest.mark.slow
def test_a_file_that_has_changed_is_not_gone_on_with(tmp_path, capsys):
    file = tmp_path / "net.py"
    file.write_text(Path("examples/own_network.py").read_text())
    options = ["--model.module", f"{file}:build", "--model.cut", "1", "--rounds", "4"]
    run(tmp_path / "run", *options)
    file.write_text(file.read_text().replace("nn.relu(x +", "nn.tanh(x +"))
    command = ["run", "fedsl", *OPTIONS, *options, "--rounds", "8", "--resume"]
    said = refused([*command, "--folder", tmp_path / "run"], capsys)
    assert "module_sha256" in said or "has changed" in said
