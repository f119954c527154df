"""What documents show is what the code does."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fedjax_sl.cli import (
    bound,
    codec,
    cost,
    export,
    plan,
    privacy,
    run,
    run_selection,
    sweep,
)
from fedjax_sl.cli import list as list_
from fedjax_sl.cli.line import SUMMARIES
from fedjax_sl.cli.main import execute
from fedjax_sl.cli.presets import start_of
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedsl.run_config import FedSLRun


ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HOW_TO = ROOT / "docs/howto"


def pages():
    """The README, and every page of the site that is written by hand."""
    return [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, kind):
    """The blocks of a language in a page, from top to bottom."""
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)


def shorter(code, *lengths):
    """The same code with these lengths, in the order of their occurrence, set to 1."""
    for name, long in lengths:
        assert f"{name}={long}" in code
        code = code.replace(f"{name}={long}", f"{name}=1")
    return code


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks, library = HOW_TO / "networks.md", HOW_TO / "library.md"
    code = "\n".join(blocks(networks, "python") + blocks(library, "python"))
    code = shorter(code, ("rounds", 100), ("eval_every", 100), ("rounds", 20))
    names = {}
    exec(compile(code, library, "exec"), names)
    assert names["bits"] == 4
    assert (tmp_path / "runs/mine/summary.json").exists()
    assert names["back"].level.tolist() == names["layer"].level.tolist()


@pytest.mark.slow
def test_the_lines_in_the_readme_run(capsys):
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    code = shorter(code, ("rounds", 100), ("eval_every", 100))
    exec(compile(code, README, "exec"), {})
    assert re.match(r"\[[01]\.\d*\]", capsys.readouterr().out)


def test_the_readme_is_short():
    assert len(README.read_text().split()) < 900


def test_the_code_about_compressors_runs():
    page = ROOT / "docs/compressors.md"
    # Flower's runs where Flower is installed.
    shown = [block for block in blocks(page, "python") if "flwr" not in block]
    assert len(shown) == 3
    names = {}
    exec(compile("\n".join(shown), page, "exec"), names)
    assert names["message"].num_bits < 32 * names["x"].size / 30
    assert (names["back"].sent == names["payload"].sent).all()
    assert len(names["data"]) < 4 * 2 * 8 * 64 / 10
    for rebuilt, trained in zip(names["rebuilt"], names["trained"], strict=True):
        np.testing.assert_allclose(rebuilt, trained, atol=0.4)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_table_of_a_sweep_opens(tmp_path, monkeypatch, library):
    """Two settings of two seeds: only the last of two evaluations counts."""
    pytest.importorskip(library)
    page = HOW_TO / "compare.md"
    (code,) = [b for b in blocks(page, "python") if f"import {library}" in b]
    rows = [
        {
            **{"run": run, "seed": run % 2, "method.prune_ratio": 0.0},
            **{"method.bits": 4 + 4 * (run // 2), "round": 10 * done},
            "test_accuracy": 0.1 * run + (0.5 if done == 2 else 0.0),
        }
        for run in range(4)
        for done in (1, 2)
    ]
    (tmp_path / "runs/grid").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "runs/grid/sweep.parquet")
    monkeypatch.chdir(tmp_path)
    shown = []
    exec(compile(code, page, "exec"), {"print": shown.append})
    (found,) = shown
    if library == "polars":
        found = found.sort("method.bits").to_dict(as_series=False)
    np.testing.assert_allclose(found["mean"], [0.55, 0.75])
    np.testing.assert_allclose(found["std"], 0.1 / 2**0.5)
    assert list(found["count"]) == [2, 2]


def commands(page):
    """What a page has typed, from top to bottom, as lists of words."""
    text = "\n".join(blocks(page, "sh") + typed_in_cells(page))
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def typed_in_cells(page):
    """The cells of a tutorial that are commands of a shell."""
    return re.findall(r"ipython3\n%%bash\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_every_folder_is_made_before_it_is_read(page):
    """By an earlier command of the page, as one types them from top to bottom."""
    made = set()
    demo = re.search("--folder (runs/\\S+)", (ROOT / "Makefile").read_text())
    for words in commands(page):
        if words[:2] == ["make", "demo"]:
            made.add(demo[1])
        if words[:1] != ["fedjax-sl"]:
            continue
        folders = [word for word in words if word.startswith("runs/")]
        if words[1] in ("run", "sweep") and "--init-from" not in words:
            made.update(folders)
        assert made.issuperset(folders), words


def test_pages_have_commands_that_read_folders():
    """Those of the list of all commands, and of a tutorial."""
    typed = [word for words in commands(HOW_TO / "commands.md") for word in words]
    assert {"runs/demo", "runs/sweep", "runs/coded"} < set(typed)
    assert ["ls", "runs/first"] in commands(ROOT / "docs/tutorials/first_run.md")


class Understood(Exception):
    """An option was parsed; what it asks for would begin now."""


@pytest.mark.slow
def test_every_command_is_understood(tmp_path, monkeypatch):
    def begin(*_, **__):
        raise Understood

    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "runs/demo"
    demo.mkdir(parents=True)
    (demo / "config.json").write_text(to_json(FedSLRun().resolved()))
    for module, name in (
        *((m, "prepare") for m in (run, bound, plan)),
        *((m, "find") for m in (run_selection, privacy)),
        (codec, "read"),
        (export, "from_json"),
        (cost, "_show"),
        (list_, "_sections"),
        (sweep, "jobs_of"),
    ):
        monkeypatch.setattr(module, name, begin)
    typed = [words for page in pages() for words in commands(page)]
    lines = [words[1:] for words in typed if words[:1] == ["fedjax-sl"]]
    assert {start_of(tuple(line)).name for line in lines} == set(SUMMARIES)
    for line in lines:
        with pytest.raises(SystemExit if "--help" in line else Understood):
            execute(line, Console(quiet=True))


def test_the_table_of_fields_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "docs/make_fields.py"))["page"]()
    assert (ROOT / "docs/fields.md").read_text() == written


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#\S*)?\)", page.read_text())
    for link in links:
        if "://" not in link:
            assert (page.parent / link).exists(), link
