"""The experiments on a world so small that they take seconds."""

import dataclasses
import sys

import numpy as np
import pytest

from experiments import fedlpq_figures, fedlpq_setting, fedlpq_table
from fedjax_sl.data import Dataset, iid
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
