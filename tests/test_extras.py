"""What is not installed costs a picture or a table, and no run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.data import load
from fedjax_sl.data.data_error import DataError
from fedjax_sl.extras import EXTRAS, lacking, require
from fedjax_sl.runs.tracking import Tracking
from tests import dry
from tests.commands import refused


ROOT = Path(__file__).parents[1]
SHORT = ["--rounds", "2", "--eval-every", "1", "--folder"]


@pytest.fixture
def without(monkeypatch):
    """Makes packages missing."""

    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def described():
    """The extras of pyproject.toml, as the packages that each installs by itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split("[<>=]", need)[0] for need in project["dependencies"]}
    return core, project["optional-dependencies"]


def test_every_optional_package_is_in_its_extra_and_nowhere_else():
    core, extras = described()
    for package, extra in EXTRAS.values():
        assert [re.split("[<>=]", need)[0] for need in extras[extra]] == [package]
        assert package not in core
    (everything,) = extras["all"]
    names = re.search(r"\[(.*)\]", everything)[1].split(",")
    assert sorted(names) == sorted(extra for _, extra in EXTRAS.values())


def test_what_is_missing_is_named_in_a_sentence(without):
    assert lacking("matplotlib", "reports need") == ""
    without("matplotlib")
    said = "reports need matplotlib: pip install 'fedjax-sl[reports]'."
    assert lacking("matplotlib", "reports need") == said
    with pytest.raises(ValueError) as refusal:
        require("matplotlib", "reports need")
    assert str(refusal.value) == said


@pytest.mark.slow
def test_commands_import_no_optional_package():
    code = """
import pkgutil, sys
from fedjax_sl import cli
from fedjax_sl.extras import EXTRAS
for found in pkgutil.iter_modules(cli.__path__, "fedjax_sl.cli."):
    pkgutil.resolve_name(found.name)
print(*sorted(set(EXTRAS) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_run_without_matplotlib_ends_with_its_record(
    without, tmp_path, monkeypatch, capsys
):
    dry.use(monkeypatch)
    without("matplotlib")
    folder = tmp_path / "run"
    main(["run", *dry.OPTIONS, *SHORT, str(folder)])
    said = capsys.readouterr().out
    assert said.count("plots are left out: they need matplotlib: pip install") == 1
    assert said.endswith(f"{folder}/metrics.jsonl, summary.json\n")
    assert (folder / "summary.json").exists() and not (folder / "plots").exists()
    assert "reports need matplotlib" in refused(["report", folder], capsys)
    main(["suggest", str(folder), "--target", "0.1"])


def test_a_sweep_without_pyarrow_ends_with_its_runs(
    without, tmp_path, monkeypatch, capsys
):
    dry.use(monkeypatch)
    without("pyarrow")
    words = ["sweep", *dry.OPTIONS, "--seeds", "2", *SHORT, str(tmp_path / "seeds")]
    main(words)
    said = capsys.readouterr().out
    assert said.count("sweep.parquet is left out: it needs pyarrow: pip install") == 1
    assert {p.name for p in (tmp_path / "seeds").glob("run-*")} == {
        *("run-0000", "run-0001")
    }
    monkeypatch.undo()
    # With it the same command writes the table, and runs nothing again.
    main(words)
    assert (tmp_path / "seeds/sweep.parquet").exists()


def test_sets_of_tfds_are_refused_and_the_digits_are_not(without):
    without("tensorflow_datasets")
    with pytest.raises(DataError, match="need tensorflow-datasets: pip install 'fed"):
        load("cifar10", split="train")
    assert load("digits", split="test").num_classes == 10


def test_what_is_asked_for_in_vain_is_refused_before_anything_is_run(without, capsys):
    without("tensorboardX", "matplotlib")
    with pytest.raises(ValueError, match="need tensorboardX: pip install 'fedjax-sl"):
        Tracking(tensorboard=True)
    assert "pictures need matplotlib" in refused(["bound", "--picture", "a"], capsys)
