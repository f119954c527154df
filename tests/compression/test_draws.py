"""Numbers for entries do not depend on how many axes these lie along."""

import jax
import numpy as np
import pytest

from fedjax_sl.compression import draws


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5)])
def test_they_are_jax_s_own(key, shape):
    found = draws.uniform(key, shape)
    np.testing.assert_array_equal(found, jax.random.uniform(key, shape))


def test_leaves_of_a_tree_share_none(key):
    tree = {"a": np.zeros((3, 4)), "b": (np.zeros(()), np.zeros(5))}
    found = draws.uniform_tree(key, tree)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, tree)
    flat = np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(found)])
    assert len(set(flat.tolist())) == 18
