"""Data of one's own, from the command line to a finished run."""

import json
import re

import numpy as np
import pytest

from fedjax_sl import methods
from fedjax_sl.cli.main import main
from fedjax_sl.records.finished_run import read
from tests.commands import refused
from tests.methods.fedavgm import SPEC


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A method that is compiled in no time."""
    monkeypatch.setitem(methods._registered, "fedavgm", SPEC)


@pytest.fixture
def saved(tmp_path):
    """`saved(**change)` writes an archive, and returns its name and some options."""

    def saved(**change):
        rng = np.random.default_rng(0)
        arrays = {
            "train_image": rng.integers(0, 256, (60, 8, 8), np.uint8),
            "train_label": np.arange(60) % 3,
            "train_client": np.repeat(["z", "x", "y"], [10, 20, 30]),
            "test_image": rng.integers(0, 256, (9, 8, 8), np.uint8),
            "test_label": np.arange(9) % 3,
        } | change
        arrays = {key: value for key, value in arrays.items() if value is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        name = f"npz:{tmp_path}/mine.npz"
        return ["--data.name", name, "--data.num-clients", "3", "--rounds", "1"]

    return saved


def start(*options):
    main(["run", "fedavgm", "--eval-every", "1", *map(str, options)])


def histogram(folder):
    return np.array(
        json.loads((folder / "summary.json").read_text())["label_histogram"]
    )


def test_a_run_by_natural_owners(saved, tmp_path):
    folder = tmp_path / "run"
    start(*saved(), "--data.partition", "natural", "--folder", folder)
    assert histogram(folder).sum(axis=1).tolist() == [20, 30, 10]
    assert read(folder).config.data.name == f"npz:{tmp_path}/mine.npz"


@pytest.mark.slow
def test_a_run_by_sizes_with_noise(saved, tmp_path):
    options = ["--data.partition", "sizes", "--data.sizes", 5, 15, 40]
    start(*saved(), *options, "--folder", tmp_path / "run", "--data.feature-noise", 0.1)
    assert histogram(tmp_path / "run").sum(axis=1).tolist() == [5, 15, 40]
    assert read(tmp_path / "run").config.data.sizes == (5, 15, 40)


@pytest.mark.slow
def test_training_images_are_held_out_where_there_is_no_test_split(saved, tmp_path):
    without = saved(test_image=None, test_label=None)
    start(*without, "--data.held-out", 12, "--folder", tmp_path / "run")
    assert histogram(tmp_path / "run").sum() == 48


@pytest.mark.slow
def test_the_folder_is_called_after_the_data(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(*saved())
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("fedavgm-npz-mine-")


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_data(saved, tmp_path, capsys):
    resume = ["--folder", tmp_path / "run", "--resume"]
    start(*saved(), *resume)
    start(*saved(), *resume, "--rounds", 2)
    other = saved(test_label=np.zeros(9, int))
    longer = ["run", "fedavgm", "--eval-every", 1, *other, *resume, "--rounds", 3]
    assert "run: the test examples have changed" in refused(longer, capsys)
    assert len(read(tmp_path / "run").lines) == 2
    # The same data, or a folder of an earlier version, which noted none.
    start(*saved(), *resume, "--rounds", 3)
    (tmp_path / "run" / "data.json").unlink()
    start(*saved(), *resume, "--rounds", 4)
    assert (tmp_path / "run" / "data.json").exists()


@pytest.mark.slow
def test_a_sweep_is_not_resumed_on_other_data(saved, tmp_path, capsys):
    folder = tmp_path / "sweep"
    sweep = ["sweep", "fedavgm", "--eval-every", "1", "--seeds", "2"]
    sweep += ["--folder", str(folder)]
    main([*sweep, *saved()])
    # As if the second run had not been begun.
    (folder / "run-0001").rename(tmp_path / "apart")
    other = saved(train_label=(np.arange(60) + 1) % 3)
    assert "sweep: the train examples have changed" in refused([*sweep, *other], capsys)
    assert not (folder / "run-0001").exists()
    main([*sweep, *saved()])
    one, again = read(folder / "run-0001"), read(tmp_path / "apart")
    assert one.lines[-1]["test_loss"] == again.lines[-1]["test_loss"]


@pytest.mark.slow
def test_runs_of_a_sweep_with_noise_are_those_of_single_runs(saved, tmp_path):
    """Though their images differ, from seed to seed."""
    noise = [*saved(), "--data.feature-noise", "0.3"]
    sweep = ["sweep", "fedavgm", "--eval-every", "1", "--seeds", "2"]
    main([*sweep, *noise, "--folder", str(tmp_path / "sweep")])
    losses = []
    for seed in (0, 1):
        start(*noise, "--seed", seed, "--folder", tmp_path / f"{seed}")
        alone = read(tmp_path / f"{seed}").lines[-1]["train_loss"]
        swept = read(tmp_path / "sweep" / f"run-000{seed}").lines[-1]["train_loss"]
        assert swept == pytest.approx(alone, rel=1e-5)
        losses.append(alone)
    start(*saved(), "--seed", 0, "--folder", tmp_path / "clean")
    assert read(tmp_path / "clean").lines[-1]["train_loss"] != losses[0]


@pytest.mark.parametrize(
    "options, said",
    [
        (
            ["--data.partition", "natural", "--data.num-clients", 4],
            "expected 3, the ow",
        ),
        (
            ["--data.partition", "sizes", "--data.sizes", 20, 40],
            "expected 3, one for e",
        ),
        (
            ["--data.partition", "sizes", "--data.sizes", 9, 9, 9],
            "expected 60 in total",
        ),
        (["--data.sizes", 0], "sizes=0: expected at least 1"),
        (["--data.feature-noise", -1], "feature_noise=-1.0: expected a number >= 0"),
        (["--data.name", "digits", "--data.partition", "natural"], "'digits' do not"),
        (["--data.name", "npz:nowhere"], "npz:nowhere: No such file or directory"),
        (["--data.name", "folder:nowhere"], "folder:nowhere: expected nowhere/train"),
        (["--data.name", "idx:nowhere"], "idx:nowhere: expected train-labels-idx1"),
        (["--data.name", "nzp:mine"], "'nzp:mine' is unknown: .* npz:FILE, folder:DIR"),
    ],
)
def test_what_is_refused(saved, tmp_path, capsys, options, said):
    folder = ["--folder", tmp_path / "run"]
    words = ["run", "fedavgm", *saved(), *options, *folder]
    assert re.search(said, refused(words, capsys))
    assert not (tmp_path / "run").exists()


def test_splits_of_different_kinds(saved, capsys):
    other = saved(train_image=np.zeros((60, 8, 8, 3), np.uint8))
    said = refused(["run", "fedavgm", *other], capsys)
    assert "test images of shape (32, 32, 1), uint8, in 3 classes: expected" in said


@pytest.mark.parametrize(
    "change, said",
    [
        ({"train_label": np.arange(59) % 3}, "60 images and 59 labels"),
        ({"train_label": np.arange(60) % 3 * 2}, "label=1: no training example has it"),
        ({"train_label": np.arange(60) % 3 - 1}, "label=-1: expected 0 or more"),
        ({"test_label": np.arange(9)}, "label=8: expected 0 to 2"),
        ({"train_image": np.full((60, 8, 8), np.nan)}, "image 0 has a pixel"),
        ({"train_image": np.zeros((60, 64), np.uint8)}, "image of shape (60, 64)"),
        ({"train_image": np.zeros((0, 8, 8), np.uint8)}, "0 images and 60 labels"),
        ({"class_names": np.array(list("abcd"))}, "class 'd' (label 3) has no"),
        ({"train_client": np.arange(59)}, "client of shape (59,)"),
        ({"images": np.ones(1)}, "it has the keys images, test_image, test_label,"),
    ],
)
def test_arrays_that_cannot_be_meant(saved, tmp_path, capsys, change, said):
    options = [*saved(**change), "--folder", tmp_path / "run"]
    sentence = refused(["run", "fedavgm", *options], capsys)
    assert sentence.startswith(f"error: npz:{tmp_path}/mine.npz: ") and said in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content, said",
    [(None, "train has no picture: expected CLASS/"), ("text", "1.png cannot be")],
)
def test_folders_that_cannot_be_meant(tmp_path, capsys, content, said):
    of_class = tmp_path / "mine" / "train" / "cat"
    of_class.mkdir(parents=True)
    if content:
        (of_class / "1.png").write_text(content)
    else:
        of_class.rmdir()
    words = ["run", "fedavgm", "--data.name", f"folder:{tmp_path}/mine"]
    assert said in refused([*words, "--folder", tmp_path / "run"], capsys)
