"""The programs that a newcomer copies run, and learn something."""

import re
import runpy
from pathlib import Path

import pytest

from fedjax_sl.compressors import COMPRESSORS


EXAMPLES = Path(__file__).parents[1] / "examples"


def shown_by(name, rounds, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--rounds", str(rounds)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def numbers(pattern, text):
    return [float(found) for found in re.findall(pattern, text)]


def test_there_is_a_test_of_each():
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs == {
        *("own_model.py", "own_network.py", "own_compressor.py", "own_data.py"),
        *("layer_wise.py", "sweep_bits.py", "optuna_batches.py", "own_selection.py"),
    }


@pytest.mark.slow
def test_a_model_of_one_s_own(monkeypatch, capsys):
    shown = shown_by("own_model.py", 60, monkeypatch, capsys)
    accuracies = numbers(r"test accuracy ([\d.]+)", shown)
    assert len(accuracies) == 3 and accuracies[-1] > 0.5
    assert 0.5 < numbers(r"half: ([\d.]+)", shown)[0] < 0.8


@pytest.mark.slow
def test_a_compressor_of_one_s_own(monkeypatch, capsys):
    # Taken back afterwards: other tests know nothing of it.
    monkeypatch.setitem(COMPRESSORS, "float16", COMPRESSORS["float32"])
    shown = shown_by("own_compressor.py", 40, monkeypatch, capsys)
    accuracies = numbers(r"accuracy ([\d.]+)", shown)
    whole, half, tenth = numbers(r"([\d.]+) Mbit", shown)
    assert half == pytest.approx(whole / 2, rel=1e-3)
    assert whole / 10 < tenth < whole / 8
    # So early in training an evaluation may be far from the next: not all of them.
    assert len(accuracies) == 3 and max(accuracies) > 0.4


@pytest.mark.slow
def test_a_selection_of_one_s_own(monkeypatch, capsys):
    """The best channels take less time, and leave clients out for ever."""
    shown = shown_by("own_selection.py", 8, monkeypatch, capsys)
    seconds, asked = numbers(r"([\d.]+) s,", shown), numbers(r"(\d+) clients", shown)
    assert seconds[1] < seconds[0] and 5 <= asked[1] < asked[0] <= 20


@pytest.mark.slow
def test_data_of_one_s_own(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = shown_by("own_data.py", 60, monkeypatch, capsys)
    assert numbers(r"test accuracy ([\d.]+)", shown)[-1] > 0.5
    owned = numbers(r"(\d+)", shown.split("each client:")[1])
    assert len(owned) == 5 and sum(owned) == 1797 - 400
    assert (tmp_path / "runs/own-data/summary.json").exists()


@pytest.mark.slow
def test_layer_wise(monkeypatch, capsys):
    shown = shown_by("layer_wise.py", 6, monkeypatch, capsys)
    accuracies, sent = (
        numbers(r"accuracy ([\d.]+)", shown),
        numbers(r"([\d.]+) M", shown),
    )
    assert min(accuracies) > 0.3
    assert sent[0] < sent[1] / 4


@pytest.mark.slow
def test_a_sweep(monkeypatch, capsys):
    shown = shown_by("sweep_bits.py", 40, monkeypatch, capsys)
    means = numbers(r"bits: ([\d.]+)", shown)
    assert len(means) == 3 and means[2] > 0.3
