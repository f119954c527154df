"""A run's folder from somebody else: nothing in it keeps its reader waiting."""

import dataclasses
import os

import numpy as np
import pytest

from fedjax_sl import reading
from fedjax_sl.cli import report
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.foreign_data import warn_of_data
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.reports import panels
from fedjax_sl.theory import bound_curve
from tests.commands import refused
from tests.hanging import in_good_time  # noqa: F401


pytestmark = pytest.mark.usefixtures("in_good_time")

READERS = {
    folders.CONFIG: lambda folder: from_json(folder / folders.CONFIG),
    folders.METRICS: read,
    folders.ROUNDS: read,
    folders.SUMMARY: lambda folder: panels._owners(folder),
    folders.BOUND: bound_curve.read,
    folders.SWEEP: lambda folder: SweepFolder(folder, [FedSLRun()]).check(),
}


@pytest.fixture
def folder(tmp_path):
    """Of a run as far as its readers go before they meet the file in question."""
    (tmp_path / folders.CONFIG).write_text(to_json(FedSLRun()))
    line = {"round": 1, "test_accuracy": 0.5}
    folders.append_lines(tmp_path / folders.METRICS, [line])
    return tmp_path


@pytest.mark.parametrize("kind", ["pipe", "device", "endless"])
@pytest.mark.parametrize("name", READERS)
def test_no_file_of_a_run_keeps_its_reader_waiting(folder, name, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, reading.RECORD + 1)
    with pytest.raises(ValueError, match=str(path if name != "sweep.json" else folder)):
        READERS[name](folder)


def test_nor_do_those_that_a_run_goes_on_with(folder):
    for change in (folders.resume_lines, lambda path: folders.keep_lines(path, 1)):
        path = folder / folders.METRICS
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ValueError, match=f"{path} is no regular file"):
            change(path)


@pytest.mark.parametrize("command", ["run", "sweep", "bound"])
def test_a_pipe_is_no_configuration(tmp_path, command, capsys):
    (tmp_path / "run").mkdir()
    pipe = tmp_path / "run" / folders.CONFIG
    os.mkfifo(pipe)
    given = ["--folder", pipe.parent] if command == "bound" else ["--config", pipe]
    assert f"{pipe} is no regular file" in refused([command, *given], capsys)


def test_a_pipe_is_no_report(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert not report._is_report(pipe)


@pytest.mark.parametrize(
    "name",
    ["_CHECKPOINT_METADATA", "progress/metadata", "state/_METADATA", "state/d/*"],
)
def test_no_checkpoint_keeps_its_reader_waiting(tmp_path, name):
    state = {"weight": np.ones((3, 2), np.float32)}
    written = Checkpoints(tmp_path / "checkpoints")
    written.save(Checkpoint(3, state, {}))
    written.close()
    [path] = (tmp_path / "checkpoints/3").glob(name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path} is no regular file"):
        Checkpoints(tmp_path / "checkpoints")


def with_data(**data):
    return dataclasses.replace(FedSLRun(), data=DataConfig(**data))


def test_data_from_elsewhere_are_named(tmp_path):
    """Before they are opened, and only these."""
    from tensorflow_datasets.core.constants import DATA_DIR

    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for data in (
        {"dir": str(elsewhere)},
        {"name": "cifar10"},
        {"name": "cifar10", "dir": str(run / "sets")},
        {"name": "cifar10", "dir": DATA_DIR},
    ):
        warn_of_data(with_data(**data), run)
    for outside in (elsewhere, run / ".." / "elsewhere", tmp_path / "run2"):
        with pytest.warns(UserWarning, match=f"'cifar10' in {outside}"):
            warn_of_data(with_data(name="cifar10", dir=str(outside)), run)


def test_so_are_files_of_one_s_own(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    warn_of_data(with_data(name=f"npz:{run}/mine.npz"), run)
    for name in (f"npz:{elsewhere}/mine.npz", f"folder:{run}/../elsewhere"):
        with pytest.warns(UserWarning, match=f"'{name}' in .*elsewhere"):
            warn_of_data(with_data(name=name), run)
