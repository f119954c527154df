"""Stricter than production: four CPU devices, no silent broadcasting of ranks."""

import jax
import pytest


jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    """A key that a test may fold anything into."""
    return jax.random.key(0)
