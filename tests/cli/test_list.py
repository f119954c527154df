"""`list` shows what the registries hold, a line each."""

import sys

import pytest
from rich.console import Console

from fedjax_sl.cli.main import execute, main
from fedjax_sl.compressors import COMPRESSORS
from fedjax_sl.data.partitions import partitions
from fedjax_sl.data.prepared_sets import prepared_sets
from fedjax_sl.data.sources import sources
from fedjax_sl.methods import methods, presets
from fedjax_sl.models.registry import NETWORKS


@pytest.fixture
def prepared(tmp_path):
    """A folder with two sets, and with what is none."""
    for place in ("cifar10/3.0.2", "sized/32x32/1.0.0", "sized/64x64/1.0.0"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dataset_info.json").write_text("{}")
    (tmp_path / "downloads/extracted").mkdir(parents=True)
    return tmp_path


def listed(capsys, *options):
    """The lines below each heading, as they come out of a pipe."""
    main(["list", *map(str, options)])
    found, below = {}, {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            name, text = line.split(maxsplit=1)
            below[name] = text
        else:
            below = found.setdefault(line.split(" (")[0], {})
    return found


def test_every_registered_name_has_a_line(prepared, capsys):
    found = listed(capsys, "--data-dir", prepared)
    assert list(found["presets"]) == list(presets())
    assert list(found["methods"]) == list(methods())
    assert list(found["partitions"]) == list(partitions())
    assert list(found["compressors"]) == list(COMPRESSORS)
    assert list(found["networks"])[: len(NETWORKS)] == list(NETWORKS)
    own = [f"{scheme}:PATH" for scheme in sources()]
    sets = ["cifar10", "sized/32x32", "sized/64x64"]
    assert list(found["data"]) == ["digits", *sets, *own]
    for rows in found.values():
        assert all(text.strip() for text in rows.values())


def test_a_preset_says_what_it_trains_on(capsys):
    said = listed(capsys)["presets"]["cifar10-fedsl"]
    assert said.endswith("; cifar10, 9360 rounds")


def test_networks_are_those_that_a_method_takes(capsys):
    main(["list"])
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("  of fedsl"))
    assert "vgg, vgg11" in line and "fedlp-cnn" not in line


def test_sets_are_found_where_tfds_keeps_them(prepared, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert listed(capsys)["data"]["cifar10"] == f"is prepared in {prepared}"
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install 'fedjax-sl[tfds]'" in listed(capsys)["data"]["cifar10"]
    assert prepared_sets(prepared / "nowhere") == []


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_has_a_line_for_each(columns, tmp_path, capsys):
    main(["list", "--data-dir", str(tmp_path)])
    piped = capsys.readouterr().out.splitlines()
    with (tmp_path / "shown").open("w") as file:
        terminal = {"width": columns, "force_terminal": True, "highlight": False}
        console = Console(file=file, **terminal)
        execute(["list", "--data-dir", str(tmp_path)], console)
    shown = (tmp_path / "shown").read_text().splitlines()
    assert len(shown) == len(piped) and max(map(len, shown)) <= columns
    for short, whole in zip(shown, piped, strict=True):
        assert whole.startswith(short.rstrip("…").rstrip())
