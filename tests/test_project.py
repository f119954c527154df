"""What stands beside the package agrees with it."""

import os
import re
import subprocess
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
    assert (
        {"check", "test-all", "docs", "wheel"} == set(matrix["target"]) <= set(targets)
    )
    # Texts: 3.10 as a number is 3.1.
    assert all(isinstance(version, str) for version in matrix["python"])
    assert PROJECT["requires-python"] == f">={min(matrix['python'])}"
    (newest,) = matrix["include"]
    assert newest == {"python": max(matrix["python"]), "target": "test-newest"}
    assert newest["target"] in targets
    named = [name.rpartition(" ")[2] for name in PROJECT["classifiers"]]
    assert (named[0], named[-1]) == (matrix["python"][0], newest["python"])


def test_the_first_python_that_runs_is_found(tmp_path):
    """pyenv has a command for each version, which fails for those not in use."""
    command, version = tmp_path / "bin/python0.1", tmp_path / "versions/0.1.2/bin"
    for python, code in [(command, 127), (version / "python0.1", 0)]:
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\nexit {code}\n")
        python.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"

    def found(*versions):
        done = subprocess.run(
            [ROOT / ".ci/python", *versions],
            env=os.environ | {"PATH": path, "PYENV_ROOT": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == bool(done.stdout) and not done.stderr
        return done.stdout.strip()

    assert found("0.2", "0.1") == str(version / "python0.1")
    assert found("0.2") == ""
    command.write_text("#!/bin/sh\n")
    assert found("0.1") == "python0.1"


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
