"""The site is built where Sphinx is installed (`make docs` installs it)."""

import re
import subprocess
import sys
import zlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import fedjax_sl
from tests.commands import PATIENCE


ROOT = Path(__file__).parents[1]
PACKAGES = "compression compressors data federation fedlpq fedsl models".split()


def public_names():
    """Every public name, as the reference calls it: by the module that has it."""
    for package in PACKAGES:
        module = import_module(f"fedjax_sl.{package}")
        yield from (f"{module.__name__}.{name}" for name in module.__all__)


def inventory(site):
    """The names that a built site describes."""
    data = (site / "objects.inv").read_bytes()
    body = zlib.decompress(data.split(b"\n", 4)[4]).decode()
    return {line.split()[0] for line in body.splitlines() if " py:" in line}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, with tutorials that were not executed."""
    if not (find_spec("sphinx") and find_spec("myst_nb")):
        pytest.skip("NOT BUILT: the site, no Sphinx (pip install '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    command = f"{sys.executable} -m sphinx -b html -q -W --keep-going".split()
    command += ["-D", "nb_execution_mode=off", ROOT / "docs", folder]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_every_public_name(site):
    described = inventory(site)
    assert set(public_names()) <= described, set(public_names()) - described
    for name in fedjax_sl.__all__:
        assert any(known.endswith(f".{name}") for known in described), name


@pytest.mark.slow
def test_the_site_asks_for_nothing_from_a_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)\""
            r"|<link\b[^>]*\brel=\"(?:stylesheet|preload|icon)\"[^>]*\bhref=\"([^\"]*)\"",
            page.read_text(),
        )
        for link in (first or second for first, second in loaded):
            assert "//" not in link, f"{page.name}: {link}"
