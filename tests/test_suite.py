"""The suite itself: it ends, whatever happens to a worker, and lets programs go."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.commands import PATIENCE
from tests.footprint import MOST, footprint, let_go, pytest_xdist_auto_num_workers


ROOT = Path(__file__).parents[1]


def suite(folder, text, *options):
    """Exit code and output of a suite of two modules as `make test` runs it."""
    (folder / "tests").mkdir()
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (folder / "tests/test_first.py").write_text(text)
    (folder / "tests/test_second.py").write_text("def test_it(): pass")
    [given] = re.findall(r"PYTEST := .* pytest (.*)", (ROOT / "Makefile").read_text())
    command = [sys.executable, "-m", "pytest", *given.split(), "-n", "1", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("death", "options"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ()),
        ("import time; time.sleep(10**6)", ("-o", "faulthandler_timeout=2")),
    ],
    ids=["crash", "hang"],
)
def test_a_worker_that_dies_ends_the_suite(tmp_path, death, options):
    text = f"def test_it(): pass\ndef test_deadly(): {death}\ndef test_next(): pass"
    code, said = suite(tmp_path, text, *options)
    assert code == 1, said
    assert "crashed while running 'tests/test_first.py::test_deadly'" in said


def test_a_half_written_program_of_the_cache_is_compiled_anew(tmp_path):
    """Workers share a cache, and JAX writes to it in place."""
    code, said = suite(
        tmp_path,
        f"""
import jax, pathlib
def test_it():
    cache = pathlib.Path({str(tmp_path / "cache")!r})
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.jit(lambda x: x + 1)(1)
    found = list(cache.glob("*-cache"))
    assert found
    for path in found:
        path.write_bytes(path.read_bytes()[:50])
    jax.clear_caches()
    assert jax.jit(lambda x: x + 1)(1) == 2
""",
    )
    assert code == 0, said


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_there_are_no_more_workers_than_cores_to_run_on(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert pytest_xdist_auto_num_workers() == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert 1 <= pytest_xdist_auto_num_workers() <= len(cores)
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "7")
    assert pytest_xdist_auto_num_workers() is None


def test_what_is_let_go_is_gone():
    """Also programs of functions that live on."""
    client, left = jax.local_devices()[0].client, []
    for _ in range(2):
        functions = [jax.jit(lambda x, n=n: jnp.sort(x) + n) for n in range(20)]
        for function in functions:
            function(jnp.arange(3.0))
        held = len(client.live_executables())
        let_go()
        assert held - len(client.live_executables()) >= len(functions)
        left.append(footprint().maps)
    assert left[1] < min(MOST.maps, left[0] + len(functions))
    assert functions[1](jnp.arange(3.0)).tolist() == [1, 2, 3]
