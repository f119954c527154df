"""The command line as its users meet it: real folders, one of a real process."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from fedjax_sl.cli import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.fields import differing
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.data.sources import load
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import read_lines
from fedjax_sl.runs.build import prepare
from tests.browser import assert_readable, pages_shown
from tests.commands import PATIENCE, PERCEPTRON, refused


QUICK = [
    *(*PERCEPTRON, "--model.cut", "1", "--batch-size", "4"),
    *("--rounds", "3", "--eval-every", "2", "--method.interval", "2"),
    *("--data.num-clients", "3", "--method.cohort-size", "2"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run in a process of its own, and the folder it left."""
    base = tmp_path_factory.mktemp("runs")
    command = ["-m", "fedjax_sl.cli.main", "run", "fedsl", *QUICK, "--folder", "first"]
    result = subprocess.run(
        [sys.executable, *command],
        cwd=base,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.device_count())},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    return base / "first", result


def test_a_run_leaves_its_record(finished):
    folder, result = finished
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["round"] for line in lines] == [2, 3]
    assert 0 <= lines[-1]["test_accuracy"] <= 1
    assert lines[1]["uplink_bits"] > lines[0]["uplink_bits"] > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final"] == lines[-1]
    assert sum(map(sum, summary["label_histogram"])) == summary["train_examples"]
    for plot in ("accuracy.svg", "loss.svg"):
        assert (folder / "plots" / plot).read_text().rstrip().endswith("</svg>")
    assert "round 2/3" in result.stdout and "majority class" in result.stdout


@pytest.mark.slow
def test_its_report_in_a_browser(finished, tmp_path):
    """With its layers and labels, which a point of a sweep does not keep."""
    folder, _ = finished
    page = tmp_path / "page.html"
    main.main(["report", str(folder), "--output", str(page)])
    assert page.stat().st_size < 5e6
    for seen in pages_shown(page, (1280, 390), tmp_path):
        assert_readable(seen)
        alts = [image["alt"] for image in seen["images"]]
        for part in ("client kernel that is kept", "each client owns"):
            assert any(part in alt for alt in alts)
        head, row = seen["table"]
        final = read_lines(folder / "metrics.jsonl")[-1]["test_accuracy"]
        assert row[head.index("final accuracy")] == f"{final:.4f}"


@pytest.mark.slow
def test_its_configuration_repeats_it(finished):
    folder, _ = finished
    other = folder.parent / "again"
    main.main(["run", "--config", str(folder / "config.json"), "--folder", str(other)])
    first, again = (read_lines(f / "metrics.jsonl") for f in (folder, other))
    for a, b in zip(first, again, strict=True):
        a.pop("wall_seconds"), b.pop("wall_seconds")
    assert first == again


def test_nothing_is_overwritten_unasked(finished, capsys):
    folder, _ = finished
    before = (folder / "metrics.jsonl").read_bytes()
    assert "--overwrite" in refused(["run", *QUICK, "--folder", folder], capsys)
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_diverged_run_names_round_and_client(tmp_path, capsys):
    huge = ["--method.learning-rate", "1e30", "--folder", str(tmp_path / "bad")]
    with pytest.raises(SystemExit) as stop:
        main.main(["run", *QUICK, *huge])
    assert stop.value.code == 3
    said = capsys.readouterr().err
    assert "round" in said and "client" in said


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--data.name", "cifar1000"], "cifar1000"),
        (["--data.name", "cifar10", "--data.dir", "nowhere"], "download_and_prepare"),
        (["--model.cut", "9"], "cut=9"),
        (["--method.prune-ratio", "1.5"], "prune_ratio=1.5"),
        (["--method.dropout-rate", "1"], "dropout_rate=1.0"),
        (["--method.bits", "1"], "bits=1"),
        (["--data.num-clients", "5000"], "5000"),
        (["--method.cohort-size", "11"], "cohort_size=11"),
        (["--rounds", "0"], "rounds=0"),
        (["--rounds", "nan"], "--rounds: expected an integer, not 'nan'"),
        (["--chunk", "1.5"], "--chunk: expected an integer, not '1.5'"),
        (["--data.num-clients", "0"], "num_clients=0: expected at least 1"),
        (["--data.train-examples", "1"], "num_clients=10: expected 1 to 1"),
        (["--data.test-examples", "0"], "test_examples=0: expected 1 to 355"),
        (["--chunk", "0"], "chunk=0: expected at least 1"),
        (["--chunk", "2", "--mapping", "scan"], "expected none with mapping='scan'"),
        (["--data.image-size", "8"], "at least 32"),
        (["--data.partition", "dirichlet", "--data.alpha", "-1"], "alpha=-1"),
        (
            ["--rounds", "2.5"],
            "--rounds: expected an integer, not '2.5'",
        ),
        (["--method.bits", "few"], "--method.bits: expected an integer, or several"),
        (["--data.partition", "odd"], "invalid choice 'odd' for argument '--data"),
        (["--colour", "red"], "Unrecognized options: --colour, red"),
        (["--model.widht", "1"], "did you mean --model.width"),
        (["--rounds"], "Missing value for argument '--rounds'"),
        (["--config", "missing.json"], "missing.json"),
        (["--config", "."], "."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments, named, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "fedsl", "--folder", "made", *arguments])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and named in message
    assert len(message.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_what_is_refused_is_not_warned_of(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "fedsl", "--data.name", "nosuch", "--rounds", "2"])
    shown = capsys.readouterr()
    assert not shown.out and "'nosuch' is unknown" in shown.err


@pytest.mark.parametrize(
    "command, named",
    [
        ("fedlpq --method.keep-probability 0", "keep_probability=0.0: expected"),
        ("fedlpq --method.keep-probability 1.5", "(0, 1]"),
        ("fedlpq --method.bits 17", "bits=17: expected 1 to 16 bits, or 32"),
        ("fedlpq --method.bits 0", "bits=0"),
        ("fedlpq --method.local-epochs 0", "local_epochs=0: expected at least 1"),
        ("fedlpq --method.cohort-size 11", "cohort_size=11"),
        ("fedlpq --data.num-clients 2000", "num_clients=2000: expected 1 to 1442"),
        ("fedlpq --model.width 0", "width=0"),
        ("fedprox", "unknown method 'fedprox'"),
    ],
)
def test_bad_input_of_layer_wise_methods(command, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    with pytest.raises(SystemExit) as stop:
        main.main(["run", *command.split(), "--folder", "made"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and named in message
    assert len(message.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_an_unknown_complexity_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "fedlpq", "--method.preference", "7", "--folder", "made"])
    assert stop.value.code == 2
    assert "preference" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_a_layer_wise_run_leaves_its_record_and_another_method_refuses_it(
    tmp_path, capsys
):
    few = "--data.num-clients 4 --method.cohort-size 2 --rounds 2 --eval-every 1"
    folder = ["--folder", str(tmp_path / "one")]
    main.main(["run", "fedlp", *PERCEPTRON, *few.split(), *folder])
    lines = read_lines(tmp_path / "one" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [37, 74]
    path = tmp_path / "one" / "config.json"
    config = from_json(path)
    assert (config.algorithm, config.method.bits) == ("fedlpq", 32)
    assert "is of a run of fedlpq" in refused(
        ["run", "fedsl", "--config", path], capsys
    )


@pytest.mark.slow
def test_cost_prints_the_published_table(monkeypatch, capsys):
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    main.main(["cost", "fedlpq"])
    shown = capsys.readouterr().out
    for number in ("661.759", "84.6", "79.6", "71.1", "35.6", "51.2", "17.2", "39.356"):
        assert number in shown
    main.main(["cost", "fedsl", "--depth", "11"])
    assert "MMACs" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--tail", "1"]])
def test_costs_are_whole_at_80_columns(options, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    some = ["--name", "mlp", "--width", "4", "--prune-ratio", "0.5", *options]
    main.main(["cost", "fedsl", *some])
    shown = " ".join(capsys.readouterr().out.split())
    assert "…" not in shown and "pruned channels are left out" in shown
    # A layer of 2048 units and one of 1024, in front of ten logits.
    held = 3072 * 2048 + 2048
    assert f"{held:,}" in shown or f"{held + 1024 * 10 + 10:,}" in shown


def test_costs_are_of_the_image_that_is_given(capsys, monkeypatch):
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    mlp = ["cost", "fedsl", "--name", "mlp", "--pixels", "8", "--channels", "1"]
    main.main(mlp)
    shown = capsys.readouterr().out
    assert "on 8 x 8 x 1" in shown and f"{64 * 512 + 512:,}" in shown
    # Few as they are.
    assert f"{64 * 512 / 1e6:.4f}" in shown
    assert "dense" not in shown
    assert "channels=0: expected at least 1" in refused(
        [*mlp, "--channels", "0"], capsys
    )


def test_cost_explains_itself(monkeypatch, capsys):
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as stop:
            main.main(["cost", flag])
        assert stop.value.code == 0
        said = capsys.readouterr().out
        assert "fedsl" in said and "fedlpq" in said and "--help" in said


def test_a_folder_with_something_else_in_it_is_left_alone(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "--folder", str(tmp_path), "--overwrite"])
    assert stop.value.code == 2
    assert "holds no run" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "text, named",
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"rounds": 3}', "algorithm=None: expected one of"),
        ('{"algorithm": "fedsl", "rouds": 3}', "unknown field 'rouds'"),
        ('{"algorithm": "fedsl", "method": {"bits": 1}}', "bits=1"),
        ('{"algorithm": "fedlpq", "method": 3}', "expected an object"),
    ],
)
def test_a_broken_configuration(tmp_path, text, named):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=named):
        from_json(path)


@pytest.mark.parametrize("kind", [FedSLRun, FedLPQRun])
def test_a_configuration_survives_its_file(tmp_path, kind):
    config = kind().resolved()
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    assert from_json(path) == config


def test_a_run_is_called_what_it_is():
    titles = [
        presets()[name][1].run.title for name in ("fedsl", "fedlpq", "fedlp", "fedavg")
    ]
    assert titles == ["FedSL", "FedLP-Q", "FedLP", "FedAvg"]
    coded = dataclasses.replace(presets()["fedavg"][1].run, method=FedLPQConfig(bits=8))
    assert coded.title == "FedLP-Q"
    by_class = {"bits": (32, 32), "keep_probability": (1.0, 1.0)}
    assert FedLPQRun(method=FedLPQConfig(**by_class)).title == "FedAvg"
    assert FedLPQRun(method=FedLPQConfig(bits=(32, 8))).title == "FedLP-Q"
    half = {"bits": 32, "keep_probability": (1.0, 0.5)}
    assert FedLPQRun(method=FedLPQConfig(**half)).title == "FedLP"


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "SplitFed v1"),
        ({"server_update": "sequential"}, "SplitFed v2"),
        ({"client_update": "relay"}, "split learning (relay)"),
        ({"client_update": "local"}, "PSL"),
        # Neither sends an update.
        ({"client_update": "local", "upload_bits": 8}, "PSL"),
        ({"client_update": "relay", "upload_bits": 8}, "split learning (relay)"),
        ({"grad_bits": (8, 32)}, "FedSL"),
        ({"upload_bits": 8, "server_update": "sequential"}, "compressed SplitFed v2"),
        ({"aggregator": AggregatorConfig(kind="adam")}, "SplitFed v1 with FedAdam"),
    ],
)
def test_a_split_run_is_called_by_its_division_of_labour(options, title):
    method = FedSLConfig(prune_ratio=0.0, dropout_rate=0.0, bits=32, **options)
    assert FedSLRun(method=method).title == title


def test_what_was_left_open_is_resolved():
    method = FedSLRun(rounds=60).resolved().method
    assert method.prune_end == 30
    assert (method.learning_rate, method.server_learning_rate) == (0.02, None)
    assert FedLPQRun().resolved().method.keep_probability == 0.5
    sub_models = FedLPQRun(method=FedLPQConfig(preference="u"))
    assert sub_models.resolved().method.keep_probability == 1


def test_methods_on_cifar10_differ_in_nothing_else():
    """What is compared has one network, one recipe and one number of rounds."""
    usual = presets()["splitfed-v1"][1].run
    for name, (spec, preset) in presets().items():
        if spec.config is FedSLRun and preset.run.data.name == "cifar10":
            fields = differing([usual, preset.run])
            # What is inside a compressor counts as one option.
            changed = {".".join(name.split(".")[:2]) for name in fields}
            assert changed <= {
                *("method.prune_ratio", "method.bits", "method.dropout_rate"),
                *("method.server_update", "method.client_update"),
                *("method.learning_rate", "method.server_learning_rate"),
                *("method.activations", "method.updates"),
            }, name


def test_held_out_images_are_those_not_trained_on():
    train = load("digits", split="train")
    rest, apart = train.divided(100)
    job = prepare(FedSLRun(data=DataConfig(held_out=100)))
    for got, expected in ((job.train, rest), (job.test, apart)):
        np.testing.assert_array_equal(got.label, expected.label)
    assert len(rest.label) + len(apart.label) == len(train.label)
    assert job.partition.count.sum() == len(rest.label)
    with pytest.raises(ValueError, match="held_out=0: expected 1 to"):
        train.divided(0)
