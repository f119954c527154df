"""Devices on a CPU: as many as granted cores, and how long they wait for each other."""

import os
import subprocess
import sys

import jax
import pytest

from fedjax_sl.federation import cpu


COUNT = """
import os
import jax

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
cpu.prepare_cpu()
print(jax.device_count())
"""

LATER = """
import jax

before = jax.device_count()
cpu.prepare_cpu()
print(jax.device_count() - before)
"""

ONE_IS_LATE = """
import time
import jax
import jax.numpy as jnp
import numpy as np

cpu.PATIENCE = 1
cpu.prepare_cpu()
late = lambda seconds: time.sleep(float(seconds)) or np.float32(seconds)
def term(shared, seconds):
    wait = jax.pure_callback(late, jax.ShapeDtypeStruct((), jnp.float32), seconds[0])
    return wait, seconds
over = devices.sharded(devices.mesh(2))
print(jax.jit(lambda s: over.spread(term, 0.0, s))(jnp.array([0.0, SECONDS]))[0])
"""


def run(program: str, **environment: str):
    """Runs a program that may prepare its devices."""
    usual = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    }
    program = f"from fedjax_sl.federation import cpu, devices\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program],
        env=usual | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_devices_are_the_granted_cores_unless_told_otherwise():
    assert run(COUNT).stdout == "1\n"
    assert run(COUNT, JAX_NUM_CPU_DEVICES="3").stdout == "3\n"


def test_a_program_that_has_computed_keeps_its_devices():
    assert run(LATER).stdout == "0\n"


@pytest.mark.slow
def test_devices_wait_as_long_as_they_are_told():
    two = {"JAX_NUM_CPU_DEVICES": "2"}
    # Far later than the two seconds after which it is given up, however busy all are,
    # and sooner than the 60 of XLA's own.
    late = ONE_IS_LATE.replace("SECONDS", "45.0")
    impatient = run(late, **two)
    assert impatient.returncode < 0
    assert "Termination timeout" in impatient.stderr
    patient = ONE_IS_LATE.replace("cpu.PATIENCE = 1", "")
    assert run(patient.replace("SECONDS", "3.0"), **two).stdout == "3.0\n"
    flags = " ".join(f"--{name}=1" for name in cpu.WAITS)
    ours = late.replace("cpu.PATIENCE = 1", "")
    assert run(ours, **two, XLA_FLAGS=flags).returncode < 0


@pytest.mark.parametrize(
    "text, told",
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx512f\nbugs\t: bf16\n", False),
        ("processor\t: 0\n", None),
    ],
)
def test_what_the_system_says_of_bf16(tmp_path, text, told):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu.bf16_instructions(tmp_path / "cpuinfo") is told
    assert cpu.bf16_instructions(tmp_path / "none") is None


def test_what_runs_once_is_not_optimised_on_a_cpu_alone(monkeypatch):
    options = cpu.compiled_for_one_run()
    assert options == {"xla_backend_optimization_level": 0}
    # A name that XLA does not know would end here.
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert cpu.compiled_for_one_run() is None
