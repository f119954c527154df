"""What is published installs, and trains with nothing but what it says it needs."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fedjax_sl.extras import EXTRAS
from tests.commands import PATIENCE, PERCEPTRON


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
OWN = {"build", "dist", "runs"}
"""Folders of a checkout that are none of the project's."""


def called(*command, **options):
    """What a process of its own prints, with no path to this checkout."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=kept,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The sdist, and the wheel that is built of it."""
    base = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")

    def left_out(folder, names):
        own = OWN if Path(folder) == ROOT else set()
        return ignored(folder, names) | (own & {*names})

    # A copy: setuptools leaves its own files beside the sources.
    shutil.copytree(ROOT, base / "source", ignore=left_out)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", base / "dist"]
    called(*build, base / "source")
    (sdist,), (wheel,) = (base.glob(f"dist/*{end}") for end in (".tar.gz", ".whl"))
    return sdist, wheel


def sources():
    """Every file that a user's installation has to have."""
    files = (ROOT / "fedjax_sl").rglob("*")
    kinds = {".py", ".html", ".typed"}
    named = {str(p.relative_to(ROOT)) for p in files if p.suffix in kinds}
    return named | {"fedjax_sl/py.typed"}


def test_the_wheel_holds_the_package_and_nothing_else(archives):
    _, wheel = archives
    names = set(zipfile.ZipFile(wheel).namelist())
    found = {name for name in names if ".dist-info/" not in name}
    assert found == sources()
    assert {"fedjax_sl/py.typed", "fedjax_sl/reports/report.html"} < found


def test_the_sdist_holds_the_package_and_no_half_of_the_tests(archives):
    sdist, _ = archives
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]
    found = {name.partition("/")[2] for name in files}
    assert sources() | {"pyproject.toml", "LICENSE", "README.md"} <= found
    assert {name.partition("/")[0] for name in found}.isdisjoint({"tests", "docs"})


def test_an_index_takes_both(archives):
    said = called(sys.executable, "-m", "twine", "check", "--strict", *archives)
    assert said.count("PASSED") == 2


def needed(wheel):
    """The distributions that the wheel needs without extras, and what they need."""
    text = zipfile.ZipFile(wheel).read(
        next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("/METADATA"))
    )
    found, waiting = {}, re.findall(r"^Requires-Dist: (.*)$", text.decode(), re.M)
    pending = [(Requirement(line), "") for line in waiting]
    while pending:
        need, extra = pending.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        distribution = importlib.metadata.distribution(need.name)
        done = found.setdefault(need.name.lower(), (distribution, set()))[1]
        for extra in {"", *need.extras} - done:
            done.add(extra)
            further = distribution.requires or ()
            pending += [(Requirement(line), extra) for line in further]
    return [distribution for distribution, _ in found.values()]


def linked(distributions, place):
    """Puts the files of distributions into a folder, as if installed there."""
    for distribution in distributions:
        tops = {Path(file).parts[0] for file in distribution.files}
        # Scripts lie outside, and what was compiled beside is none of its own.
        for top in tops - {"..", "__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(distribution.locate_file(top))


@pytest.fixture(scope="module")
def python(archives, tmp_path_factory):
    """Python of an environment with the wheel and what it needs, and nothing else."""
    base = tmp_path_factory.mktemp("installed")
    called(sys.executable, "-m", "venv", "--without-pip", base / "venv")
    python = base / "venv/bin/python"
    (packages,) = base.glob("venv/lib/python*/site-packages")
    linked(needed(archives[1]), packages)
    # Offline, and by this interpreter's pip: the environment has none.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    called(*pip, "--no-deps", "--no-index", "--no-compile", archives[1])
    return python


def test_a_small_install_trains_and_says_what_it_lacks(python, tmp_path):
    # Elsewhere: in a checkout it would be that one's.
    code = "import fedjax_sl; print(fedjax_sl.__file__)"
    place = called(python, "-c", code, cwd=tmp_path)
    packages = python.parents[1] / "lib"
    assert Path(place.strip()).is_relative_to(packages)
    names = sorted(EXTRAS)
    code = f"from importlib.util import find_spec; print(*map(find_spec, {names}))"
    assert set(called(python, "-c", code, cwd=tmp_path).split()) == {"None"}
    command = python.with_name("fedjax-sl")
    assert called(command, "--version").startswith("fedjax-sl ")
    options = "--model.cut 1 --method.interval 2 --rounds 4 --eval-every 2".split()
    options += ["--folder", "runs/small"]
    said = called(command, "run", *PERCEPTRON, *options, cwd=tmp_path)
    assert said.count("plots are left out: they need matplotlib: pip install") == 1
    assert re.search(r"test accuracy 0\.\d+ .*metrics\.jsonl, summary\.json\n$", said)
    assert (tmp_path / "runs/small/summary.json").exists()
    assert "final test accuracy" in called(
        command, "compare", "runs/small", cwd=tmp_path
    )
