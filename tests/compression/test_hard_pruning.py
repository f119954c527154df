import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.groups import chain
from fedjax_sl.compression.hard_pruning import without_zeros, zeros_first
from fedjax_sl.compression.pruning import keep_mask
from fedjax_sl.compression.scores import random_scores


def tree(key, filters=8):
    """Two units, of which filters 2 and 5 of the first are 0, and one single weight."""
    keys = jax.random.split(key, 2)
    first = jax.random.normal(keys[0], (3, 3, 2, filters))
    second = jax.random.normal(keys[1], (3, 3, filters, 4))
    first = first.at[..., jnp.array([2, 5])].set(0.0)
    second = second.at[0, 0, 0, 0].set(0.0)
    return {
        "a": {"bias": jnp.zeros(filters), "kernel": first},
        "b": {"bias": jnp.zeros(4), "kernel": second},
    }


@pytest.mark.parametrize("ratio, pruned", [(0.25, 2), (0.5, 4)])
def test_filters_that_are_0_are_pruned_first_and_count(key, ratio, pruned):
    params = tree(key)
    groups = chain(params)
    scores = zeros_first(random_scores(key, params), params, groups)
    mask = keep_mask(scores, ratio)
    kept = mask["a"]["bias"]
    assert not kept[2] and not kept[5]
    assert (~kept).sum() == pruned
    jax.tree.map(
        np.testing.assert_array_equal, without_zeros(mask, params, groups), mask
    )


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_weights_that_are_0_are_pruned_first_and_count(key, ratio):
    params = tree(key)
    scores = zeros_first(random_scores(key, params), params)
    mask = keep_mask(scores, ratio, granularity="weight")
    kernel = params["b"]["kernel"]
    assert not mask["b"]["kernel"][0, 0, 0, 0]
    assert (~mask["b"]["kernel"]).sum() == int(ratio * kernel.size)
    assert mask["a"]["bias"] is None


def test_weights_that_are_0_stay_pruned_whatever_the_ratio(key):
    params = tree(key)
    dense = keep_mask(random_scores(key, params), 0.0, granularity="weight")
    mask = without_zeros(dense, params)
    for name, layer in params.items():
        assert (~mask[name]["kernel"]).sum() == (layer["kernel"] == 0).sum()


def test_filters_that_are_0_stay_pruned_with_those_who_read_them(key):
    params = tree(key)
    dense = keep_mask(random_scores(key, params), 0.0)
    mask = without_zeros(dense, params, chain(params))
    dead = [2, 5]
    np.testing.assert_array_equal(np.flatnonzero(~np.asarray(mask["a"]["bias"])), dead)
    first, second = (
        np.broadcast_to(mask[name]["kernel"], params[name]["kernel"].shape)
        for name in "ab"
    )
    assert not first[..., dead].any() and not second[:, :, dead].any()
    # A filter with a single 0 is none.
    assert np.delete(first, dead, axis=3).all()
    assert np.delete(second, dead, axis=2).all() and mask["b"]["bias"].all()
