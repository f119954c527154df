"""Runs of different methods side by side: what differs is shown, and never averaged."""

import base64
import dataclasses
import json
import re
import shutil

import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.traffic import Traffic
from tests.browser import assert_readable, pages_shown
from tests.commands import refused


DATA = DataConfig(num_clients=2)
SPLIT = FedSLConfig(cohort_size=2)
LAYERS = FedLPQConfig(cohort_size=2)
FEDSL = FedSLRun(data=DATA, method=SPLIT, rounds=4, eval_every=2)
FEDLPQ = FedLPQRun(data=DATA, method=LAYERS, rounds=2, eval_every=1)


def changed(config, *, run=(), **method):
    method = dataclasses.replace(config.method, **method)
    return dataclasses.replace(config, method=method, **dict(run))


FOUR = {
    "plain": FEDSL,
    "versiontwo": changed(FEDSL, server_update="sequential"),
    "coded": FEDLPQ,
    "whole": changed(FEDLPQ, bits=32, keep_probability=1.0),
}


def write(folder, config, accuracies, *, epoch=True, majority=0.1):
    """The folder of a run that reached these accuracies, one after another."""
    config = config.resolved()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    links = {
        f"{link}{kind}": [8_000, 8_000]
        for link in Traffic._fields
        for kind in ("_bits", "_side_bits")
    }
    macs = {"client_macs": [1e6, 1e6], "server_macs": [1e6, 1e6]}
    every = config.eval_every
    # Two clients see a mini-batch each in a round, or own all examples.
    each = 2 * config.batch_size / 1442 if config.algorithm == "fedsl" else 1.0
    lines = [
        {"round": (n + 1) * every, "test_accuracy": accuracy, "majority_rate": majority}
        | ({"epoch": (n + 1) * every * each} if epoch else {})
        for n, accuracy in enumerate(accuracies)
    ]
    rounds = [
        {"round": t, "client_id": [0, 1], **links, **macs}
        for t in range(every * len(accuracies))
    ]
    for name, rows in (("metrics", lines), ("rounds", rounds)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


@pytest.fixture
def four(tmp_path):
    """A run of each of four methods; one of them learns nothing."""
    for name, config in FOUR.items():
        last = 0.102 if name == "plain" else 0.7
        write(tmp_path / name, config, [0.1, last])
    return tmp_path


def compared(capsys, monkeypatch, *arguments, columns=110):
    monkeypatch.setenv("COLUMNS", str(columns))
    capsys.readouterr()
    main(["compare", *map(str, arguments)])
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 110, 200])
def test_runs_and_methods_are_named_and_lines_fit(four, capsys, monkeypatch, columns):
    said = compared(capsys, monkeypatch, four, columns=columns)
    assert max(map(len, said.splitlines())) <= columns
    for name, title in {
        "plain": "FedSL",
        "versiontwo": "compressed SplitFed v2",
        "coded": "FedLP-Q",
        "whole": "FedAvg",
    }.items():
        assert re.search(rf"^ *{name}:? +{title}\b", said, re.MULTILINE)
    assert not re.search(r"None|nan|\bfedlpq\b", said)


def test_a_name_with_brackets_is_shown_as_it_is(tmp_path, capsys, monkeypatch):
    for name in ("x[a]", "x[/b]"):
        write(tmp_path / name, FEDSL, [0.1, 0.5])
    said = compared(capsys, monkeypatch, tmp_path / "x[a]", tmp_path / "x[" / "b]")
    assert "x[a]" in said and "b]" in said


def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    tmp_path, capsys, monkeypatch
):
    write(tmp_path / "good", FEDSL, [0.1, 0.5])
    begun = write(tmp_path / "begun", FEDSL, [0.1, 0.5])
    (begun / "metrics.jsonl").write_text("")
    said = compared(capsys, monkeypatch, tmp_path)
    assert re.search(r"^skipped: .*begun.* no line yet", said, re.MULTILINE)
    assert re.search(r"^ *good\b", said, re.MULTILINE)
    assert "begun" in refused(["compare", tmp_path / "good", begun], capsys)
    shutil.rmtree(tmp_path / "good")
    assert "no line yet" in refused(["compare", tmp_path], capsys)


def test_a_run_that_goes_on_is_said_to(tmp_path, capsys, monkeypatch):
    write(tmp_path / "half", changed(FEDSL, run={"rounds": 8}), [0.1, 0.5])
    write(tmp_path / "whole", FEDSL, [0.1, 0.5])
    said = compared(capsys, monkeypatch, tmp_path, columns=200)
    assert "half: at round 4 of 8\n" in said and "whole: at" not in said
    (head,) = (
        line for line in said.splitlines() if "accuracy" in line and "run " in line
    )
    assert head.count(" rounds ") == 2 and head.count("rounds to it") == 1


def test_only_what_differs_and_applies_is_shown(four, capsys, monkeypatch):
    said = compared(capsys, monkeypatch, four, columns=300)
    for shown in ("keep_probability", "bits", "rounds", "batch_size", "optimizer"):
        assert re.search(rf"\b{shown}\b", said)
    # Of one method alone, or the same in all that have it, or said by the method.
    for hidden in ("code", "cut", "prune_ratio", "server_update", "momentum"):
        assert not re.search(rf"\b{hidden}\b", said)


def test_options_of_what_is_off_do_not_differ(tmp_path, capsys, monkeypatch):
    off = dict(prune_ratio=0.0, dropout_rate=0.0, bits=32)
    some = changed(FEDSL, **off, importance="magnitude", rescale=False)
    write(tmp_path / "a", changed(FEDSL, **off), [0.5, 0.6])
    write(tmp_path / "b", changed(some, quantizer_norm="l2"), [0.5, 0.6])
    said = compared(capsys, monkeypatch, tmp_path)
    assert "SplitFed v1 on digits" in said
    assert not re.search("importance|rescale|quantizer_norm", said)
    assert re.search(r"^ *a .*1/1", said, re.M) and re.search(r"^ *b .*1/1", said, re.M)


def test_the_split_is_named(tmp_path, capsys, monkeypatch):
    apart = DataConfig(held_out=100)
    for name, data in (("a", DataConfig()), ("b", apart)):
        write(tmp_path / name, changed(FEDSL, run={"data": data}), [0.5, 0.6])
    for folder, said in (
        (tmp_path / "a", "final test accuracy"),
        (tmp_path / "b", "final held-out accuracy"),
        (tmp_path, "final accuracy"),
    ):
        assert said in " ".join(compared(capsys, monkeypatch, folder).split())


def test_seeds_alone_are_averaged(tmp_path, capsys, monkeypatch):
    """Not copies of a run, nor runs whose clients met different deadlines."""
    write(tmp_path / "one", FEDSL, [0.1, 0.5])
    write(tmp_path / "two", changed(FEDSL, run={"seed": 1}), [0.1, 0.7])
    write(tmp_path / "copy", FEDSL, [0.1, 0.5])
    said = compared(capsys, monkeypatch, tmp_path)
    assert re.search(r"^ *copy \+1 +0\.6 ±1\.3 ", said, re.MULTILINE)
    assert re.search(r"^ *one +0\.5 ", said, re.MULTILINE)
    late = [
        changed(
            FEDSL,
            run={"seed": s, "drop_stragglers": True, "channel": Channel(deadline_s=d)},
        )
        for s, d in enumerate((1.0, 2.0))
    ]
    for name, config in zip("xy", late, strict=True):
        write(tmp_path / "late" / name, config, [0.1, 0.5])
    said = compared(capsys, monkeypatch, tmp_path / "late")
    assert len(re.findall(r"1/1", said)) == 2


def test_seeds_are_averaged_where_all_have_come(tmp_path, capsys, monkeypatch):
    """One that is ahead of the others does not lend its last accuracy."""
    write(tmp_path / "a", FEDSL, [0.4, 0.6, 0.9])
    write(tmp_path / "b", changed(FEDSL, run={"seed": 1}), [0.4])
    said = compared(capsys, monkeypatch, tmp_path)
    assert re.search(r"^ *a \+1 +0\.4 ±0 ", said, re.MULTILINE)


def test_the_target_is_above_chance(four, capsys, monkeypatch):
    said = compared(capsys, monkeypatch, four)
    assert "reaching 0.7 takes" in said and "above chance, 0.1," in said
    assert re.search(r"^ *plain .* 0/1 +– ", said, re.MULTILINE)
    said = compared(capsys, monkeypatch, four / "plain")
    assert "No run is above chance" in said and "0/1" in said


def test_the_target_is_what_all_have_reached(tmp_path, capsys, monkeypatch):
    """The best of a run that fell back at its end counts."""
    write(tmp_path / "a", FEDSL, [0.8, 0.3])
    write(tmp_path / "b", changed(FEDSL, bits=4), [0.6, 0.9])
    said = compared(capsys, monkeypatch, tmp_path)
    assert "reaching 0.8 takes" in said and said.count("1/1") == 2


def test_rounds_of_one_meaning_share_an_axis(four, capsys, monkeypatch):
    """A mini-batch of each client is no epoch of each client."""
    said = compared(capsys, monkeypatch, four)
    epochs = dict(re.findall(r"^ *(\w+) .* 1/1 +([\d.]+) ", said, re.MULTILINE))
    assert epochs == {"versiontwo": "0.0888", "coded": "2", "whole": "2"}
    assert "epochs" in said
    same = compared(capsys, monkeypatch, four / "plain", four / "versiontwo")
    assert "epochs" not in same and re.search(r"versiontwo .*1/1 +4 ", same)


def test_records_that_tell_no_epochs_have_no_such_axis(tmp_path, capsys, monkeypatch):
    write(tmp_path / "a", FEDSL, [0.8, 0.9], epoch=False)
    write(tmp_path / "b", FEDLPQ, [0.8, 0.9], epoch=False)
    said = compared(capsys, monkeypatch, tmp_path)
    assert "epochs" not in said and "nan" not in said
    main(["report", str(tmp_path), "--output", str(tmp_path / "page.html")])
    assert "against bits sent up" in (tmp_path / "page.html").read_text()


def page(folder, *runs):
    """A report's text, and its pictures by name."""
    path = folder / "page.html"
    main(["report", *map(str, runs or [folder]), "--output", str(path)])
    pictures = {p.stem: p.read_text() for p in (folder / "page").glob("*.svg")}
    return path.read_text(), pictures


@pytest.mark.slow
def test_a_report_of_four_methods(four):
    text, pictures = page(four)
    title = re.search("<h1>(.*)</h1>", text)[1]
    assert title == "FedLP-Q, FedSL, compressed SplitFed v2 and FedAvg on digits"
    assert not re.search(r">(None|nan)<", text)
    assert "versiontwo (compressed SplitFed v2)" in pictures["accuracy"]
    assert "passes over the training examples" in pictures["accuracy"]
    assert "heat_map" not in pictures
    assert all(f"Configuration of {name}" in text for name in FOUR)


@pytest.mark.slow
def test_a_map_has_one_group_a_cell(tmp_path):
    """Of three settings there is a map for each value of the third; gaps are empty."""
    points = [(b, r, i) for b in (4, 8) for r in (0.1, 0.3) for i in (2, 4)]
    for n, (bits, ratio, interval) in enumerate(points[:-1]):
        config = changed(FEDSL, bits=bits, prune_ratio=ratio, interval=interval)
        write(tmp_path / f"run-{n}", config, [0.1, 0.2 + 0.1 * n])
    _, pictures = page(tmp_path)
    shown = pictures["heat_map"]
    for n in range(7):
        assert f">{0.2 + 0.1 * n:.3f}<" in shown
    assert "nan" not in shown and ">bits 4<" in shown and ">bits 8<" in shown


@pytest.mark.slow
def test_it_is_readable_on_narrow_screens(four, tmp_path):
    """Nothing is cut: lines of the table are blocks there."""
    page(four)
    text = (four / "page.html").read_text()
    (folder := tmp_path / "seen").mkdir()
    for seen in pages_shown(four / "page.html", (1280, 390), folder):
        assert_readable(seen)
        assert seen["cut"] == 0
    images = re.findall(r'src="data:image/svg\+xml;base64,(.+?)"', text)
    assert all(b"None" not in base64.b64decode(image) for image in images)
