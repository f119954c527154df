"""A finished run's messages in every code."""

import json
import re
import shutil

import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.compression.code_length import code_length, entropy
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedlpq.panels import sent_next
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.run_folder import append_lines
from fedjax_sl.reports.coder_table import coder_lengths
from fedjax_sl.reports.panels import last_checkpoint
from tests.cli.test_privacy import ROUND
from tests.commands import refused


RUN = [
    *("run", "fedlpq", "--data.num-clients", "4", "--method.cohort-size", "3"),
    *("--model.width", "0.05", "--batch-size", "50", "--method.bits", "6"),
    *("--model.lowering", "xla"),
    *("--rounds", "1", "--eval-every", "1", "--data.train-examples", "300"),
    *("--data.test-examples", "100", "--method.keep-probability", "1"),
]


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "coded"
    main([*RUN, "--folder", str(folder)])
    return folder


@pytest.fixture
def copy(coded, tmp_path):
    """The run, to be changed."""
    return shutil.copytree(coded, tmp_path / "copy")


@pytest.fixture(scope="module")
def sent(coded):
    """What the command computes."""
    seen = last_checkpoint(read(coded))
    assert seen is not None
    sent = sent_next(seen)
    assert sent is not None
    return sent


def test_lengths_are_those_of_messages_and_nothing_is_below_the_entropy(sent):
    found = coder_lengths(sent)
    assert list(found.layers) == list(sent.levels)
    assert found.size.tolist() == [levels.size for levels in sent.levels.values()]
    for place, levels in enumerate(sent.levels.values()):
        assert found.entropy[place] == pytest.approx(levels.size * entropy(levels))
        # Levels from -64 to 64 are 129.
        assert found.message["fixed"][place] == 32 + 8 * levels.size
        for code in ("gamma", "delta", "omega"):
            expected = code_length(levels, bits=6, code=code)
            assert found.message[code][place] == expected
        for coder in ("rice", "range"):
            assert found.message[coder][place] <= found.message["fixed"][place] + 4
        assert all(
            bits[place] > found.entropy[place] for bits in found.message.values()
        )
    # The largest layers have most of the bits.
    assert found.message["range"].sum() < min(
        bits.sum() for coder, bits in found.message.items() if coder != "range"
    )


def test_rice_is_left_out_where_it_takes_no_such_levels(sent):
    one = dict(list(sent.layers.items())[:1])
    assert "rice" in coder_lengths(sent._replace(layers=one, bits=10)).message
    assert "rice" not in coder_lengths(sent._replace(layers=one, bits=11)).message


def test_the_table_has_every_layer_and_their_total(coded, sent, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    main(["codec", str(coded)])
    said = capsys.readouterr().out
    found = coder_lengths(sent)
    table = said[: said.index("Messages as encoders")]
    assert max(map(len, table.splitlines())) <= 80
    assert f"client {sent.client}'s update after round 1, b = 6" in said
    assert "the run counts Elias omega" in said
    lines = [line.split() for line in table.splitlines() if line.strip()]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["layer"] == ["elements", "entropy", *found.message]
    columns = (found.entropy, *found.message.values())
    for place, name in enumerate(found.layers):
        cells = [f"{bits[place] / found.size[place]:.3f}" for bits in columns]
        assert rows[name] == [str(found.size[place]), *cells]
    whole = [f"{np.sum(bits) / found.size.sum():.3f}" for bits in columns]
    assert rows["all"] == [str(found.size.sum()), *whole]


def test_a_method_that_codes_no_layers_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "config.json").write_text(to_json(FedSLRun()))
    append_lines(
        tmp_path / "rounds.jsonl", [{**ROUND, "round": 0, "updates_up_bits": [9, 9]}]
    )
    append_lines(tmp_path / "metrics.jsonl", [{"round": 1, "test_accuracy": 0.5}])
    said = refused(["codec", tmp_path], capsys)
    assert re.search("a run of fedsl codes no layers: expected one of fedlpq", said)


def test_a_run_of_float32_values_is_told_in_a_sentence(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["method"]["bits"] = 32
    (copy / "config.json").write_text(json.dumps(config))
    assert "they send float32 values, or have a comp" in refused(
        ["codec", copy], capsys
    )


def test_without_a_checkpoint_there_is_nothing_to_code(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    assert "copy has no checkpoint" in refused(["codec", copy], capsys)


def test_no_folder_and_no_run_are_refused(tmp_path, capsys):
    assert "FOLDER" in refused(["codec"], capsys)
    assert str(tmp_path) in refused(["codec", tmp_path], capsys)
