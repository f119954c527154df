"""What stands beside the package agrees with it."""

import re
import tomllib
from pathlib import Path

import yaml


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_workflow_calls_targets_that_there_are():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    matrix = job["strategy"]["matrix"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"check", "test", "docs", "wheel"} == set(matrix["target"]) <= set(targets)
    # Texts: 3.10 as a number is 3.1.
    assert all(isinstance(version, str) for version in matrix["python"])
    assert PROJECT["requires-python"] == f">={min(matrix['python'])}"


def test_the_citation_is_of_this_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["license"]
    # It stands in pyproject.toml alone.
    assert "version" not in citation


def test_every_module_of_an_extra_is_on_the_page():
    page = (ROOT / "docs/howto/install.md").read_text()
    shown = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    own = {"all", "dev", "bench", "docs"}
    assert shown == set(PROJECT["optional-dependencies"]) - own
