"""The look-up of levels, and the rotation, of EDEN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.hadamard import blocks_of, rotated, rotated_back
from fedjax_sl.compression.normal_levels import normal_levels
from fedjax_sl.compressors.eden import CELLS, REACH, _nearest


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_nearest_level_is_found(bits):
    levels = normal_levels(bits)
    x = np.random.default_rng(0).normal(size=20_000).astype(np.float32) * 1.5
    x = np.concatenate([x, [-100.0, -6.0, 0.0, 5.999, 6.0, 100.0]]).astype(np.float32)
    found = np.asarray(_nearest(jnp.asarray(x), jnp.int32(bits - 1)))
    distance = np.abs(x[:, None] - levels)
    # Half-way either level is the nearest.
    chosen = distance[np.arange(len(x)), found]
    np.testing.assert_allclose(chosen, distance.min(axis=1), rtol=1e-4, atol=1e-6)
    # No cell holds two edges, so that one comparison decides.
    assert np.diff(levels).min() > 2 * REACH / CELLS or bits == 1


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000, 4096, 5000])
def test_a_rotation_keeps_lengths_and_is_undone(size, key):
    x = jax.random.normal(key, (size,))
    blocks = rotated(key, x)
    assert blocks.shape == blocks_of(size) and blocks.size >= size
    assert blocks.size < 2 * size or size <= 2
    np.testing.assert_allclose((blocks**2).sum(), (x**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(rotated_back(key, blocks, (size,)), x, atol=1e-5)


def test_a_rotation_spreads_one_entry_over_its_block(key):
    blocks = rotated(key, jnp.zeros(512).at[17].set(3.0))
    np.testing.assert_allclose(jnp.abs(blocks), 3 / np.sqrt(512), rtol=1e-5)


def test_signs_differ_between_keys_and_are_even(key):
    one, two = (rotated(jax.random.key(n), jnp.ones(4096)) for n in (1, 2))
    assert jnp.abs(one - two).max() > 0.1
    # A vector of ones becomes the transform of the signs, of mean square 1.
    assert float(one.std()) == pytest.approx(1.0, abs=0.05)
