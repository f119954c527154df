"""A U-shaped network from the command line, to its report."""

import json

import pytest

from fedjax_sl.cli.main import main
from tests.commands import refused
from tests.runs.test_resume import assert_same_run


RUN = [
    *("run", "fedsl", "--data.name", "digits", "--data.num-clients", "4"),
    *("--method.cohort-size", "4", "--method.interval", "2", "--eval-every", "2"),
    *("--model.name", "mlp", "--model.cut", "1", "--model.tail", "1"),
    # As resolved for the shorter run, the ramp would end sooner.
    *("--model.width", "0.05", "--method.prune-end", "2"),
]


def test_a_run_is_resumed_bit_for_bit_and_reported(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main([*RUN, "--rounds", "4", "--folder", str(whole)])
    assert "U-shaped FedSL" in capsys.readouterr().out
    main([*RUN, "--rounds", "2", "--folder", str(parts)])
    main(["run", "--resume", "--folder", str(parts), "--rounds", "4"])
    assert_same_run(parts, whole)
    line = json.loads((whole / "rounds.jsonl").read_text().splitlines()[0])
    assert not any(line["labels_up_bits"]) and all(line["gradients_up_bits"])
    main(["report", str(whole)])
    picture = (whole / "report/breakdown.svg").read_text()
    assert "features down" in picture and "second cut" in picture


@pytest.mark.slow
def test_the_bound_is_not_of_it(tmp_path, capsys):
    main([*RUN, "--rounds", "2", "--folder", str(tmp_path / "run")])
    said = refused(["bound", "--folder", str(tmp_path / "run")], capsys)
    assert "model.tail=1" in said


def test_an_illegal_tail_is_said_in_one_sentence(tmp_path, capsys):
    folder = tmp_path / "run"
    said = refused([*RUN, "--model.tail", "2", "--folder", str(folder)], capsys)
    assert "tail=2 behind cut=1: expected 0 or 1 layers" in said
    assert not folder.exists()
