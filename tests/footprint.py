"""What a process of the suite takes: programs are let go, and a limit is kept."""

import ctypes
import gc
import os
from pathlib import Path
from typing import NamedTuple

import jax
import pytest


class Footprint(NamedTuple):
    """What a process takes of its machine; zeros where the system does not tell.

    Attributes:
      resident: bytes in memory.
      peak: the most they ever were.
      maps: regions of its address space, of which Linux grants 65,530. LLVM cannot load
        a program beyond them, and the process ends with a segmentation fault.
    """

    resident: int
    peak: int
    maps: int


MOST = Footprint(resident=3 * 10**9, peak=3 * 10**9, maps=40_000)
"""Of a process of the suite."""


def footprint() -> Footprint:
    """Of this process, now."""
    status, maps = Path("/proc/self/status"), Path("/proc/self/maps")
    if not (status.exists() and maps.exists()):
        return Footprint(0, 0, 0)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    resident, peak = (1024 * int(lines[n].split()[0]) for n in ("VmRSS", "VmHWM"))
    return Footprint(resident, peak, maps.read_text().count("\n"))


def settle() -> None:
    """Gives the system back what nothing refers to any more.

    After a compilation the C library keeps the better part of what LLVM has freed.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def let_go() -> None:
    """Programs that JAX holds for functions which may be called again."""
    jax.clear_caches()
    settle()


_after_modules: list[Footprint] = []


@pytest.fixture(autouse=True, scope="module")
def programs_let_go():
    """After a module, its programs go; it fails if it came to more than `MOST`."""
    before = footprint()
    yield
    after = footprint()
    _after_modules.append(after)
    let_go()
    assert after.maps < MOST.maps
    assert after.peak < MOST.peak or after.peak == before.peak


_of_workers = pytest.StashKey[dict[str, tuple[int, int]]]()


def _most() -> tuple[int, int]:
    """The process's peak, and the most maps that a module left."""
    return footprint().peak, max((one.maps for one in _after_modules), default=0)


def pytest_sessionfinish(session):
    """Tells the controller, where the suite has workers."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["most"] = _most()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Takes down what a worker tells; one that crashed tells nothing."""
    found = node.config.stash.setdefault(_of_workers, {})
    if hasattr(node, "workeroutput"):
        found[node.gateway.id] = node.workeroutput["most"]


def pytest_terminal_summary(terminalreporter, config):
    """A line for each process."""
    found = config.stash.get(_of_workers, {"one process": _most()})
    for name, (peak, maps) in found.items():
        terminalreporter.write_line(
            f"{name}: at most {peak / 1e9:.2f} GB and {maps:,} memory maps"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """As many workers as there are cores for them, and memory.

    By itself pytest-xdist counts the machine's cores, of which fewer may be ours.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, memory // MOST.peak))
