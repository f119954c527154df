"""Stricter than production: four CPU devices, no silent broadcasting of ranks."""

import os

import jax
import pytest


# Nearly all the time of these tests goes into compiling programs that run once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    """A key that a test may fold anything into."""
    return jax.random.key(0)
