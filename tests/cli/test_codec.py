"""A finished run's messages in every code."""

import json
import re
import shutil

import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.compression.code_length import code_length, entropy
from fedjax_sl.compressors import COMPRESSORS, sign
from fedjax_sl.compressors.compressor import Levels
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.custom import CustomRun
from fedjax_sl.fedlpq.next_update import sent_next
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.run_folder import append_lines
from fedjax_sl.reports.coder_table import coder_lengths
from fedjax_sl.reports.last_checkpoint import last_checkpoint
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


@pytest.mark.slow
def test_lengths_are_those_of_messages_and_nothing_is_below_the_entropy(sent):
    found = coder_lengths(sent)
    assert list(found.layers) == list(sent.levels)
    np.testing.assert_array_equal(found.sent, found.message["omega"])
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


def test_the_table_has_every_layer_and_their_total(coded, sent, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    main(["codec", str(coded)])
    said = capsys.readouterr().out
    found = coder_lengths(sent)
    table = said[: said.index("Messages as encoders")]
    assert max(map(len, table.splitlines())) <= 80
    assert f"client {sent.client}'s update after round 1, b = 6, Elias omega" in said
    assert "No code of single levels is shorter" in said
    lines = [line.split() for line in table.splitlines() if line.strip()]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["layer"] == ["elements", "sent", "entropy", *found.message]
    columns = (found.sent, found.entropy, *found.message.values())
    for place, name in enumerate(found.layers):
        cells = [f"{bits[place] / found.size[place]:.3f}" for bits in columns]
        assert rows[name] == [str(found.size[place]), *cells]
    whole = [f"{np.sum(bits) / found.size.sum():.3f}" for bits in columns]
    assert rows["all"] == [str(found.size.sum()), *whole]


def test_a_run_in_a_range_code_says_so(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["method"]["code"] = "range"
    (copy / "config.json").write_text(json.dumps(config))
    said, columns = columns_of(copy, capsys)
    assert "b = 6, range code" in said
    cells = re.search("^all (.*)$", said, re.MULTILINE)[1].split()
    whole = dict(zip(columns, cells, strict=True))
    assert whole["sent"] == whole["range"] != whole["omega"]


def compressed(folder, **updates):
    """Changes a run's configuration: its next updates take a compressor."""
    config = json.loads((folder / "config.json").read_text())
    config["method"]["updates"] |= updates
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def columns_of(folder, capsys):
    """What the command prints, and the columns of its table."""
    capsys.readouterr()
    main(["codec", str(folder)])
    said = capsys.readouterr().out
    return said, re.search("^layer (.*)$", said, re.MULTILINE)[1].split()


@pytest.mark.slow
def test_a_compressor_of_levels_is_shown_in_every_code(copy, capsys):
    compressed(copy, kind="qsgd", bits=4, coder="rice")
    said, columns = columns_of(copy, capsys)
    coders = ["fixed", "rice", "range", "omega", "gamma", "delta"]
    assert columns == ["elements", "sent", "entropy", *coders]
    assert "kind=qsgd, bits=4" in said.replace("\n", " ")
    cells = re.search("^all (.*)$", said, re.MULTILINE)[1].split()
    whole = dict(zip(columns, cells, strict=True))
    assert whole["sent"] == whole["rice"] != whole["fixed"]
    assert all(float(whole[coder]) > float(whole["entropy"]) for coder in coders)


@pytest.mark.slow
def test_of_a_compressor_without_levels_what_it_sends_is_shown(copy, capsys):
    compressed(copy, kind="top_k", keep=0.5)
    said, columns = columns_of(copy, capsys)
    assert columns == ["elements", "sent"]
    assert "are no integer levels: there is no entropy" in said.replace("\n", " ")
    # Half of the values, and their positions.
    sent = float(re.search("^all (.*)$", said, re.MULTILINE)[1].split()[1])
    assert 16 < sent < 18


def halves():
    """A compressor of another package: signs, of which its file says two codes."""
    inner = sign()

    def levels(payload, mask):
        return payload.positive[np.asarray(mask)].astype(int)

    return inner._replace(levels=Levels(levels, lambda: {"halves": inner.wire}))


@pytest.mark.slow
def test_a_compressor_of_one_s_own_is_shown_as_its_file_says(copy, capsys, monkeypatch):
    monkeypatch.setitem(COMPRESSORS, "halves", halves)
    compressed(copy, kind="halves")
    _, columns = columns_of(copy, capsys)
    assert columns == ["elements", "sent", "entropy", "halves"]


@pytest.mark.slow
def test_levels_that_no_other_code_takes_have_an_entropy(copy, capsys):
    compressed(copy, kind="eden", bits=3)
    said, columns = columns_of(copy, capsys)
    assert columns == ["elements", "sent", "entropy"]
    assert "No other code takes the levels" in said


def test_a_method_that_codes_no_layers_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "config.json").write_text(to_json(CustomRun()))
    append_lines(
        tmp_path / "rounds.jsonl", [{**ROUND, "round": 0, "updates_up_bits": [9, 9]}]
    )
    append_lines(tmp_path / "metrics.jsonl", [{"round": 1, "test_accuracy": 0.5}])
    said = refused(["codec", tmp_path], capsys)
    assert re.search("a run of custom codes no layers: expected one of .*fedlpq", said)


def test_a_run_of_float32_values_is_told_in_a_sentence(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["method"]["bits"] = 32
    (copy / "config.json").write_text(json.dumps(config))
    told = "nothing coded on the link 'updates': values are float32, or of as many"
    assert told in refused(["codec", copy], capsys)


@pytest.mark.slow
def test_the_model_that_goes_down_is_a_link_of_its_own(copy, capsys):
    told = refused(["codec", copy, "--link", "models"], capsys)
    assert "(method.models.kind)" in told
    config = json.loads((copy / "config.json").read_text())
    config["method"]["models"] |= {"kind": "qsgd", "bits": 4, "coder": "rice"}
    (copy / "config.json").write_text(json.dumps(config))
    main(["codec", str(copy), "--link", "models"])
    said = capsys.readouterr().out.replace("\n", " ")
    assert "of the server's model after round 1, kind=qsgd, bits=4" in said
    # Weights of one size are as long in a Rice code as in one of fixed width.
    sent = float(re.search("  all +[0-9]+ +([0-9.]+)", said)[1])
    assert 2 < sent < 5


def test_a_link_that_a_method_has_not_is_refused(copy, capsys):
    told = refused(["codec", copy, "--link", "activations"], capsys)
    assert "link='activations': expected one of ('updates', 'models')" in told


def test_without_a_checkpoint_there_is_nothing_to_code(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    assert "copy has no checkpoint" in refused(["codec", copy], capsys)


def test_no_folder_and_no_run_are_refused(tmp_path, capsys):
    assert "FOLDER" in refused(["codec"], capsys)
    assert "expected the folder of a run" in refused(["codec", tmp_path], capsys)
