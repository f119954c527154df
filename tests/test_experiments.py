"""The experiments on a world so small that they take seconds."""

import dataclasses

import pytest
from rich.console import Console

from experiments import cells
from experiments import presets as experiment
from experiments.finals import final_table, paired_table
from experiments.resnet_cuts import cells as cells_of_resnet
from experiments.splitfed_cuts import cells as cells_by_cut
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.network_config import ImageKind
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.methods import presets
from fedjax_sl.records.finished_run import learning_curve, read
from fedjax_sl.records.run_folder import read_lines
from fedjax_sl.runs.signals import Stopped


@pytest.fixture
def tiny_cells(monkeypatch, tmp_path):
    """Cells of two seeds; they are run below the folder that is returned."""
    config = FedLPQRun(
        data=DataConfig(num_clients=4, train_examples=24, test_examples=10),
        model=CNNConfig(width=0.03),
        method=FedLPQConfig(cohort_size=2),
        rounds=2,
        eval_every=1,
    )
    labels = {"settings": {"bits": 10}}
    found = [
        cells.Cell("tiny", labels, dataclasses.replace(config, seed=s)) for s in (0, 1)
    ]
    return found, tmp_path / "runs"


def rows_in(cells_and_folders, path):
    """Every list of rows that there is on the way."""
    wanted, folders = cells_and_folders
    quiet = Console(quiet=True)
    found = cells.rows_of(wanted, path, folders=folders, console=quiet)
    return [list(rows) for rows in found]


@pytest.mark.slow
def test_a_cell_s_row_is_what_its_run_leaves(tiny_cells, tmp_path, monkeypatch):
    path, (_, folders) = tmp_path / "rows.jsonl", tiny_cells
    *_, rows = rows_in(tiny_cells, path)
    assert read_lines(path) == rows and [row["seed"] for row in rows] == [0, 1]
    lines = read_lines(folders / "tiny-1/metrics.jsonl")
    assert rows[1]["accuracy"] == [line["test_accuracy"] for line in lines]
    assert rows[1]["seconds"] == [line["sim_seconds"] for line in lines]
    # A tenth of the band is up to ten times slower: noise is less, too.
    for slow, usual in zip(rows[1]["slow_seconds"], rows[1]["seconds"], strict=True):
        assert usual < slow < 10 * usual
    steady = learning_curve(read(folders / "tiny-1"), Channel(fading=False))
    assert rows[1]["steady_seconds"] == steady.seconds.tolist()
    assert rows[1]["rounds"] == [1, 2] and rows[1]["settings"] == {"bits": 10}
    assert rows[1]["code"] == cells.code_version() and "pruned_accuracy" not in rows[1]

    monkeypatch.setattr(cells, "run", None)
    assert rows_in(tiny_cells, path) == [rows]


@pytest.mark.slow
def test_a_cell_that_was_stopped_is_resumed_and_names_both_codes(
    tiny_cells, tmp_path, monkeypatch
):
    *_, whole = rows_in(tiny_cells, tmp_path / "whole.jsonl")
    run, later = cells.run, (tiny_cells[0], tmp_path / "later")

    def stopped(job, folder, **options):
        run(job, folder, **options)
        for name in ("metrics.jsonl", "rounds.jsonl"):
            first = (folder / name).read_text().splitlines()[0]
            (folder / name).write_text(f"{first}\n")
        raise Stopped(15)

    monkeypatch.setattr(cells, "run", stopped)
    path = tmp_path / "later.jsonl"
    with pytest.raises(Stopped):
        rows_in(later, path)
    assert not path.exists()
    monkeypatch.setattr(cells, "run", run)
    monkeypatch.setattr(cells, "code_version", lambda: "newer")
    *_, rows = rows_in(later, path)
    assert rows[0]["accuracy"] == whole[0]["accuracy"]
    assert rows[0]["code"] == f"{whole[0]['code']}+newer" and rows[1]["code"] == "newer"


def test_the_table_has_mean_and_interval():
    """Three seeds of 0.66, 0.68 and 0.70: the mean, and t of 2 degrees of freedom."""
    rows = [
        {"preset": "niid-bench-dir05", "accuracy": [final - 0.1, final]}
        | {"epochs": [10.0, 20.0], "hours": 1.0, "code": "abc"}
        for final in (0.66, 0.68, 0.70)
    ]
    half = 4.3027 * 0.02 / 3**0.5
    table = final_table(rows, "preset", experiment.PUBLISHED)
    (line,) = [x for x in table.splitlines() if "niid" in x]
    assert f"| 3 | 0.680 ± {half:.3f} | 20 | 1.00 | 0.682" in line
    assert set(experiment.PUBLISHED) <= set(presets())


def test_fedavg_trains_what_splitfed_trains():
    """The same data, recipe, batches, and passes over the images."""
    *splitfed, fedavg = (cell.config for cell in cells_by_cut(1))
    assert [run.model.cut for run in splitfed] == [2, 4, 6, 8]
    for run in splitfed:
        assert (run.data, run.batch_size) == (fedavg.data, fedavg.batch_size)
        for name in ("weight_decay", "crop_pixels", "flip"):
            assert getattr(run.method, name) == getattr(fedavg.method, name)
        # A step of ten clients' batches is ten times as long as one of a single batch.
        assert run.method.learning_rate == 10 * fedavg.method.learning_rate
        examples = run.rounds * run.cohort_size * run.batch_size
        assert examples == pytest.approx(50_000 * fedavg.rounds, rel=0.01)
        share = fedavg.method.cosine_rounds / fedavg.rounds
        assert run.method.cosine_rounds / run.rounds == share


def test_a_pair_is_compared_seed_by_seed():
    """Seeds that differ more than the settings do not hide what one loses."""

    def row(preset, seed, accuracy, bits):
        costs = {"uplink_bits": [bits], "seconds": [2 * bits]}
        return {"preset": preset, "seed": seed, "accuracy": [0.1, accuracy], **costs}

    plain = [row("plain", seed, 0.5 + 0.1 * seed, 80) for seed in range(3)]
    coded = [row("coded", seed, 0.49 + 0.1 * seed, 8) for seed in (2, 1, 0)]
    other = row("coded", 7, 0.9, 1)
    table = paired_table([*plain, *coded, other], "preset", {"coded": "plain"})
    line = table.splitlines()[-1]
    assert line == "| coded | plain | 3 | 1.0 ± 0.0 | 10.0 times | 10.0 times |"
    assert paired_table([*plain, *coded[:1]], "preset", {"coded": "plain"}) == ""


def test_a_resnet_is_cut_where_it_may_be():
    """Each run is the same but for its cut, and its seed."""
    found = [cell.config for cell in cells_of_resnet(2)]
    plain = {dataclasses.replace(run, seed=0, model=found[0].model) for run in found}
    assert len(found) == 8 and len(plain) == 1
    network = found[0].model.uncut(ImageKind((32, 32, 3), 10))
    assert {run.model.cut for run in found} < {*network.cuts}
