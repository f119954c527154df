import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.compression import (
    apply_mask,
    keep_mask,
    kept,
    magnitude_scores,
    ratio_at,
    taylor_scores,
)
from fedjax_sl.compression.pruning import lowest
from tests.draws import examples
from tests.worlds import assert_equal


def tree_of(key, *channels):
    """Units conv (kernel, bias) and norm (scale, bias) with these channels."""
    tree = {}
    for place, (inputs, outputs) in enumerate(
        zip(channels[:-1], channels[1:], strict=True)
    ):
        unit_key = jax.random.fold_in(key, place)
        kernel = jax.random.normal(unit_key, (3, 3, inputs, outputs))
        ones = jnp.ones(outputs)
        tree[f"stage_{place:02d}"] = {
            "conv": {"kernel": kernel, "bias": ones},
            "norm": {"scale": ones, "bias": ones},
        }
    return tree


def kernels(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]


compiled_lowest = jax.jit(lowest)  # once for each length, not once for each example


@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e-30, 1e30]), min_size=1),
    data=st.data(),
)
@settings(max_examples=examples(60))
def test_lowest_is_a_stable_sort_cut_off(scores, data):
    count = data.draw(st.integers(0, len(scores)))
    marked = np.asarray(compiled_lowest(jnp.array(scores), jnp.int32(count)))
    expected = np.zeros(len(scores), bool)
    expected[np.argsort(scores, kind="stable")[:count]] = True
    np.testing.assert_array_equal(marked, expected)


@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.35, 0.5, 0.9])
def test_exactly_the_asked_share_of_each_kernel_is_pruned(key, ratio):
    tree = tree_of(key, 3, 10, 20)
    mask = keep_mask(magnitude_scores(tree), ratio, granularity="weight")
    for kernel, keep in zip(kernels(tree), kernels(mask), strict=True):
        expected = int(ratio * 1000 * kernel.size) // 1000
        assert (~keep).sum() == expected
    assert mask["stage_00"]["conv"]["bias"] is None
    filters = keep_mask(magnitude_scores(tree), ratio)
    for layer in filters.values():
        keep = layer["conv"]["bias"]
        assert (~keep).sum() == int(ratio * 1000 * keep.size) // 1000


def test_a_share_that_floats_cannot_hold_counts_as_written():
    scores = {"unit": {"kernel": jnp.arange(100.0)[:, None]}}
    assert kept(keep_mask(scores, 0.29, granularity="weight"), scores) == 71


def test_global_ranking_prunes_the_share_over_all_kernels(key):
    tree = tree_of(key, 3, 10, 20)
    tree["stage_00"]["conv"]["kernel"] *= 0.01
    mask = keep_mask(magnitude_scores(tree), 0.1, granularity="weight", scope="global")
    first, second = kernels(mask)
    assert (~first).sum() + (~second).sum() == int(0.1 * (first.size + second.size))
    assert (~first).mean() > 0.5 > (~second).mean()


@pytest.mark.parametrize("granularity", ["filter", "weight"])
def test_masks_are_nested_in_the_ratio(key, granularity):
    scores = magnitude_scores(tree_of(key, 3, 16, 16))
    masks = [keep_mask(scores, r, granularity=granularity) for r in (0.2, 0.5, 0.8)]
    for loose, tight in zip(masks[:-1], masks[1:], strict=True):
        for a, b in zip(jax.tree.leaves(loose), jax.tree.leaves(tight), strict=True):
            assert (a | ~b).all()


def test_a_filter_goes_with_its_bias_and_norm(key):
    tree = tree_of(key, 3, 8)
    pruned = apply_mask(tree, keep_mask(magnitude_scores(tree), 0.5))
    unit = pruned["stage_00"]
    dead = (unit["conv"]["kernel"] == 0).all(axis=(0, 1, 2))
    assert dead.sum() == 4
    for leaf in (unit["conv"]["bias"], *unit["norm"].values()):
        np.testing.assert_array_equal(leaf == 0, dead)


def test_filter_score_is_a_sum_of_squares_not_a_squared_sum(key):
    kernel = jnp.array([[1.0, 0.6], [-1.0, 0.6]])
    tree = {"unit": {"kernel": kernel}}
    mask = keep_mask(taylor_scores(tree, {"unit": {"kernel": jnp.ones((2, 2))}}), 0.5)
    np.testing.assert_array_equal(mask["unit"]["kernel"][0], [True, False])


@pytest.mark.slow
def test_coupled_inputs_leave_the_published_number_of_entries(key):
    tree = tree_of(key, 3, 64, 64, 128, 128)
    tree = {name: {"conv": unit["conv"]} for name, unit in tree.items()}
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 260_160
    mask = keep_mask(magnitude_scores(tree), 0.35)
    assert kept(mask, tree) == 112_518
    weights = keep_mask(magnitude_scores(tree), 0.35, granularity="weight")
    biases = 64 + 64 + 128 + 128
    assert kept(weights, tree) - biases == 168_857


def test_pruning_error_of_magnitude_scores(key):
    tree = {"unit": {"kernel": jax.random.normal(key, (50, 20))}}
    for ratio in (0.1, 0.35, 0.7):
        mask = keep_mask(magnitude_scores(tree), ratio, granularity="weight")
        w, pruned = tree["unit"]["kernel"], apply_mask(tree, mask)["unit"]["kernel"]
        assert ((w - pruned) ** 2).sum() <= int(ratio * 1000) / 1000 * (w**2).sum()


def test_no_gradient_flows_to_what_is_pruned(key):
    tree = tree_of(key, 2, 6)
    mask = keep_mask(magnitude_scores(tree), 0.5)

    def loss(tree):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(apply_mask(tree, mask)))

    gradient = jax.grad(loss)(tree)
    assert_equal(gradient, apply_mask(gradient, mask))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient))


def test_ratio_is_a_value_and_may_differ_between_clients(key):
    tree = tree_of(key, 3, 10)
    traces = []

    def one(ratio):
        traces.append(ratio)
        return keep_mask(magnitude_scores(tree), ratio, granularity="weight")

    ratios = jnp.array([0.1, 0.35, 0.7])
    together = jax.jit(jax.vmap(one))(ratios)
    jax.jit(jax.vmap(one)).lower(ratios)
    for place, ratio in enumerate(ratios):
        alone = keep_mask(magnitude_scores(tree), ratio, granularity="weight")
        assert_equal(jax.tree.map(lambda x, p=place: x[p], together), alone)


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_ratio_out_of_range(key, ratio):
    with pytest.raises(ValueError, match="ratio="):
        keep_mask(magnitude_scores(tree_of(key, 2, 2)), ratio)


def test_ramp():
    steps = np.arange(0, 121)
    values = [float(ratio_at(t, 0.35, start=0, end=100)) for t in steps]
    assert values[0] == 0
    assert (np.diff(values) >= 0).all()
    np.testing.assert_allclose(values[50], 0.30625, rtol=1e-6)
    np.testing.assert_allclose(values[100:], 0.35, rtol=1e-6)
    np.testing.assert_allclose(
        ratio_at(25, 0.4, start=0, end=100, shape="linear"), 0.1, rtol=1e-6
    )
    assert ratio_at(0, 0.5, start=0, end=100, shape="constant") == 0.5


def test_ramp_of_no_length_is_a_step():
    with jax.debug_nans(True):
        values = [float(ratio_at(t, 0.5, start=3, end=3)) for t in (0, 2, 3, 9)]
    assert values == [0, 0, 0.5, 0.5]
