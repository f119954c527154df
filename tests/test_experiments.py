"""The experiments on a world so small that they take seconds."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from experiments import fedlpq_figures, fedlpq_setting, fedlpq_table
from experiments import presets as experiment
from fedjax_sl.data import Dataset, iid
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import read_lines


TINY = dataclasses.replace(
    fedlpq_setting.REDUCED,
    num_clients=4,
    cohort_size=2,
    local_epochs=1,
    rounds=5,
    batch_size=4,
    width=0.05,
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Random images; results go to the folder that is returned."""
    rng = np.random.default_rng(0)

    def images(count):
        return Dataset(
            image=rng.integers(0, 256, (count, 32, 32, 3), np.uint8),
            label=rng.integers(0, 10, count).astype(np.int32),
            name="random",
            class_names=tuple("abcdefghij"),
        )

    train, test = images(24), images(10)
    owners = iid(rng, train.label, TINY.num_clients)
    for module in (fedlpq_table, fedlpq_figures):
        monkeypatch.setattr(module, "REDUCED", TINY)
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        monkeypatch.setattr(module, "world", lambda scale, name: (train, test, owners))
    monkeypatch.setattr(
        fedlpq_table, "SCHEMES", {"FedAvg": (1.0, None), "(0.5)": (0.5, None)}
    )
    monkeypatch.setattr(sys, "argv", ["experiment"])
    return tmp_path / TINY.name


@pytest.mark.slow
def test_rows_are_kept_and_not_computed_again(tiny, monkeypatch):
    fedlpq_table.main()
    rows = read_lines(tiny / "fedlpq_table.jsonl")
    assert len(rows) == 2 * 2 * 3
    plain, coded = (
        next(r for r in rows if (r["scheme"], r["bits"]) == ("FedAvg", b))
        for b in (32, 7)
    )
    assert 0 < coded["uplink_bits"] < plain["uplink_bits"]
    assert len(plain["accuracy"]) == 5
    assert "FedAvg" in (tiny / "fedlpq_table.md").read_text()
    assert (tiny / "fedlpq_table.svg").exists()

    monkeypatch.setattr(fedlpq_table, "run_row", None)
    fedlpq_table.main()
    assert read_lines(tiny / "fedlpq_table.jsonl") == rows

    fedlpq_figures.main()
    for number in (3, 5, 6, 7):
        assert (tiny / f"figure_{number}.svg").exists()
    messages = read_lines(tiny / "fedlpq_messages.jsonl")
    sizes = [sum(layer.values()) for layer in messages[0]["counts"].values()]
    assert len(sizes) == 14 and min(sizes) > 0


def test_a_preset_s_row_and_table_say_what_its_runs_reached(tmp_path):
    """Three seeds of 0.66, 0.68 and 0.70: the mean, and t of 2 degrees of freedom."""
    rows = []
    for seed, final in enumerate((0.66, 0.68, 0.70)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        costs = dict.fromkeys(
            ("uplink_bits", "downlink_bits", "sim_seconds", "sim_joules"), 7
        )
        lines = [
            {"round": t, "epoch": 10.0 * t, "test_accuracy": final - 0.1 * (2 - t)}
            | {"train_loss": 1.0, "wall_seconds": 1800.0 * t}
            | costs
            for t in (1, 2)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
        (folder / "summary.json").write_text(json.dumps({"device": "2 x cpu"}))
        rows.append(experiment.row_of("niid-bench-dir05", seed, folder, "abc"))
    assert rows[0]["test_accuracy"] == pytest.approx([0.56, 0.66])
    assert all(row["hours"] == 1 and row["uplink_bits"] == 7 for row in rows)
    half = 4.3027 * 0.02 / 3**0.5
    (line,) = [x for x in experiment.table(rows).splitlines() if "niid" in x][-1:]
    assert f"| 3 | 0.680 ± {half:.3f} | 20 | 1.00 | 0.682" in line
    assert set(experiment.PUBLISHED) <= set(presets())


def test_the_version_of_the_code_is_that_of_its_sources():
    version = experiment.code_version()
    assert version == experiment.code_version() and len(version) == 12
