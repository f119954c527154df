import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.hard_pruning import without_zeros, zeros_first
from fedjax_sl.compression.pruning import couple_inputs, keep_mask
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
    scores = zeros_first(random_scores(key, params), params, "filter")
    mask = couple_inputs(keep_mask(scores, ratio))
    kept = mask["a"]["bias"]
    assert not kept[2] and not kept[5]
    assert (~kept).sum() == pruned
    jax.tree.map(np.testing.assert_array_equal, without_zeros(mask, params), mask)


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_weights_that_are_0_are_pruned_first_and_count(key, ratio):
    params = tree(key)
    scores = zeros_first(random_scores(key, params), params, "weight")
    mask = keep_mask(scores, ratio, granularity="weight")
    kernel = params["b"]["kernel"]
    assert not mask["b"]["kernel"][0, 0, 0, 0]
    assert (~mask["b"]["kernel"]).sum() == int(ratio * kernel.size)
    assert mask["a"]["bias"] is None


def test_what_is_0_stays_pruned_whatever_the_ratio(key):
    params = tree(key)
    for granularity in ("filter", "weight"):
        scores = random_scores(key, params)
        dense = keep_mask(scores, 0.0, granularity=granularity)
        mask = without_zeros(dense, params)
        for name, unit in params.items():
            keep = jnp.broadcast_to(mask[name]["kernel"], unit["kernel"].shape)
            gone = 0 if granularity == "filter" and name == "b" else None
            zeros = (unit["kernel"] == 0).sum() if gone is None else gone
            assert (~keep).sum() == zeros
        if granularity == "filter":
            np.testing.assert_array_equal(
                np.flatnonzero(~np.asarray(mask["a"]["bias"])), [2, 5]
            )
