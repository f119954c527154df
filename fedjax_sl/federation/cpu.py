"""Prepares a CPU: a device for each core, and what its cores and compiler can do."""

import contextlib
import os
import re
from pathlib import Path

import jax


WAITS = (
    "xla_cpu_collective_call_terminate_timeout_seconds",
    "xla_cpu_collective_call_warn_stuck_timeout_seconds",
)
PATIENCE = 7 * 86400
"""Seconds that a CPU's device waits for the others. XLA ends the process after 40, but
clients may differ by more, and a process may be stopped for a night."""


def num_cores() -> int:
    """Returns the number of cores that this process may run on."""
    # A cluster's scheduler often grants a job a few of a machine's cores.
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_cpu() -> None:
    """Makes each of these cores a device, and lets devices wait for one another.

    Call it before JAX computes anything: later it does nothing. It leaves alone what
    JAX_NUM_CPU_DEVICES and XLA_FLAGS say.
    """
    if jax.config.values["jax_num_cpu_devices"] < 1:
        # A program that has computed something keeps the devices that it has.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", num_cores())
    flags = os.environ.get("XLA_FLAGS", "")
    if not any(name in flags for name in WAITS):
        waits = (f"--{name}={PATIENCE}" for name in WAITS)
        os.environ["XLA_FLAGS"] = " ".join((flags, *waits))


def compiled_for_one_run() -> dict[str, int] | None:
    """Returns the compiler options of a program that runs once, on this backend.

    A CPU compiles it in a third of the time, without optimisations that one run does
    not pay back.
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_backend_optimization_level": 0}


def bf16_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether this CPU multiplies bf16; None where the system does not tell."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return None
    known = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if not known:
        return None
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(known[0].split()))
