"""Stricter than production: four CPU devices, no silent broadcasting of ranks."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import jax
import pytest

from fedjax_sl.federation.cpu import prepare_cpu
from tests import compilations, draws, footprint


# Hooks and fixtures count where they are named in this module.
compiled = compilations.compiled
programs_let_go = footprint.programs_let_go
pytest_sessionfinish = footprint.pytest_sessionfinish
pytest_testnodedown = footprint.pytest_testnodedown
pytest_terminal_summary = footprint.pytest_terminal_summary
pytest_xdist_auto_num_workers = footprint.pytest_xdist_auto_num_workers


# A shell starts what it runs in the background with Ctrl-C ignored, which commands that
# tests start inherit and, as they should, respect.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A command that a test starts would compile all that it imports: 9 s of its time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Nearly all the time of these tests goes into compiling programs that run once; without
# fusion emitters that takes 40 % less, and a tenth less if LLVM's modules are not split
# for threads: workers take the cores.
_flags = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
# JAX 0.11.2 has nothing but those emitters, and ends a process that names their flag.
if jax.__version_info__ < (0, 11):
    _flags += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _flags)
# What one test has compiled another one, or a run in a process of its own, need not.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="fedjax_sl-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
# Tests that kill runs at every step write thousands of small files: twice as quick in
# memory, where a system has some for files.
_memory = Path("/dev/shm")
if os.access(_memory, os.W_OK) and shutil.disk_usage(_memory).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))
jax.config.update("jax_num_cpu_devices", 4)
# As every command does: the flags are part of the key of a compiled program.
prepare_cpu()
jax.config.update("jax_numpy_rank_promotion", "raise")
draws.register()
# A third of the time of tracing goes into looking for garbage among what is imported;
# `programs_let_go` collects what a module leaves.
gc.freeze()
gc.set_threshold(100_000, 10, 10)


@pytest.fixture
def key():
    """A key that a test may fold anything into."""
    return jax.random.key(0)
