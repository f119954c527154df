"""What documents show is what the code does."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedjax_sl.cli import bound, codec, cost, plan, privacy, run, run_selection, sweep
from fedjax_sl.cli.main import COMMANDS, execute
from fedjax_sl.cli.presets import start_of
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedsl.run_config import FedSLRun


ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code = "\n".join(blocks)
    for name, long in (("rounds", 100), ("eval_every", 100), ("rounds", 20)):
        assert f"{name}={long}," in code
        code = code.replace(f"{name}={long},", f"{name}=1,")
    names = {}
    exec(compile(code, README, "exec"), names)
    assert names["bits"] == 4
    assert (tmp_path / "runs/mine/summary.json").exists()
    assert names["back"].level.tolist() == names["layer"].level.tolist()


def test_the_code_about_compressors_runs():
    text = (ROOT / "docs/compressors.md").read_text()
    blocks, names = re.findall(r"```python\n(.*?)```", text, re.DOTALL), {}
    # Flower's runs where Flower is installed.
    blocks = [block for block in blocks if "flwr" not in block]
    assert len(blocks) == 3
    exec(compile("\n".join(blocks), "compressors.md", "exec"), names)
    assert names["message"].num_bits < 32 * names["x"].size / 30
    assert (names["back"].sent == names["payload"].sent).all()
    assert len(names["data"]) < 4 * 2 * 8 * 64 / 10
    for rebuilt, trained in zip(names["rebuilt"], names["trained"], strict=True):
        np.testing.assert_allclose(rebuilt, trained, atol=0.4)


def commands():
    """What the README has typed, from top to bottom, as lists of words."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines()]


def test_every_folder_is_made_before_it_is_read():
    """By an earlier command, as one types them from top to bottom."""
    made, read = set(), []
    demo = re.search("--folder (runs/\\S+)", (ROOT / "Makefile").read_text())
    for words in commands():
        if words[:2] == ["make", "demo"]:
            made.add(demo[1])
        if words[:1] != ["fedjax-sl"]:
            continue
        folders = [word for word in words if word.startswith("runs/")]
        if words[1] in ("run", "sweep") and "--init-from" not in words:
            made.update(folders)
        read += folders
        assert made.issuperset(folders), words
    assert {"runs/demo"} < set(read)


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
        (cost, "_show"),
        (sweep, "jobs_of"),
    ):
        monkeypatch.setattr(module, name, begin)
    lines = [words[1:] for words in commands() if words[:1] == ["fedjax-sl"]]
    assert {start_of(tuple(line)).name for line in lines} == set(COMMANDS)
    for line in lines:
        with pytest.raises(SystemExit if "--help" in line else Understood):
            execute(line, Console(quiet=True))


def test_the_table_of_fields_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "docs/make_fields.py"))["page"]()
    assert (ROOT / "docs/fields.md").read_text() == written


@pytest.mark.parametrize(
    "page",
    [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
    for link in links:
        if "://" not in link:
            assert (page.parent / link).exists(), link
