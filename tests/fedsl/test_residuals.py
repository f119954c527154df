"""Residuals of compressed updates: what each client keeps, and when it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers
from fedjax_sl.federation import clients
from fedjax_sl.fedsl import fedsl
from fedjax_sl.fedsl.estimates.memory import feedback_bytes
from fedjax_sl.fedsl.message import entries_of
from tests.fedsl.test_updates import (
    CLIENTS,
    FEEDBACK,
    PLAIN,
    RANDOM,
    TOP,
    algorithm,
    periods,
    with_updates,
)
from tests.worlds import assert_close, assert_equal, tiny_cohort, tiny_model


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["error", "ef21"])
def test_what_is_sent_and_what_is_kept_add_up(feedback, key):
    """w + C(w_k - w + e) + e' = w_k + e, for a cohort of one."""
    one = dataclasses.replace(PLAIN, cohort_size=1)
    how = dataclasses.replace(TOP, feedback=feedback)
    config = dataclasses.replace(one, updates=how)
    (_, middle, end), _ = periods(config, key, [[3], [3]])
    # The same period once more, from the same start, with float32 updates.
    plain = jax.jit(algorithm(one).round)
    state = middle._replace(residual=None)
    for step in range(2):
        own = jax.random.fold_in(key, 10 + step)
        state, _ = plain(state, tiny_cohort(own, ids=[3]), own)
    whole = [leaf[0] for leaf in jax.tree.leaves(state.client["params"])]
    start = [leaf[0] for leaf in jax.tree.leaves(middle.client["params"])]
    found = [leaf[0] for leaf in jax.tree.leaves(end.client["params"])]
    for leaf, before, after, old, new in zip(
        whole, start, found, middle.residual, end.residual, strict=True
    ):
        assert np.asarray(old.kept[3]).any()
        if feedback == "error":
            np.testing.assert_allclose(
                after - before + new.kept[3], leaf - before + old.kept[3], atol=1e-6
            )
        else:
            np.testing.assert_allclose(after - before, new.kept[3], atol=1e-6)
            gap = np.abs((leaf - before) - new.kept[3]).sum()
            assert gap < np.abs((leaf - before) - old.kept[3]).sum()


@pytest.mark.slow
def test_residuals_follow_the_client_not_its_slot(key):
    cohorts = [[4, 1], [2, 4], [1, 5]]
    states, _ = periods(with_updates(FEEDBACK, cohort_size=2), key, cohorts)
    assert not any(leaf.kept.any() for leaf in states[0].residual)
    for before, after, ids in zip(states[:-1], states[1:], cohorts, strict=True):
        pairs = zip(before.residual, after.residual, strict=True)
        gaps = [np.abs(new.kept - old.kept).reshape(CLIENTS, -1) for old, new in pairs]
        changed = np.concatenate(gaps, axis=1).any(axis=1)
        assert np.flatnonzero(changed).tolist() == sorted(ids)


@pytest.mark.slow
def test_a_client_whose_message_is_not_used_keeps_its_residual(key):
    config = with_updates(FEEDBACK, interval=1)
    made = algorithm(config)
    round, state = jax.jit(made.round), jax.jit(made.init)(key)
    cohort = tiny_cohort(key)
    state, _ = round(state, cohort, key)
    broken = cohort._replace(
        fault=jnp.asarray([1.0, jnp.nan, 1.0, 1.0]),
        num_examples=cohort.num_examples.at[3].set(0),
    )
    after, metrics = round(state, broken, jax.random.fold_in(key, 1))
    assert metrics.rejected.tolist() == [False, True, False, False]
    for old, new in zip(state.residual, after.residual, strict=True):
        same = [bool((old.kept[k] == new.kept[k]).all()) for k in range(CLIENTS)]
        assert same == [False, True, False, True, True, True]


@pytest.mark.slow
def test_pruned_entries_neither_go_nor_change_their_residual(key):
    config = with_updates(FEEDBACK, prune_ratio=0.5, prune_end=0)
    states, _ = periods(config, key, [range(4), range(4), range(4)])
    before, after = states[-2:]
    leaves = jax.tree.leaves(before.client["params"])
    masks = jax.tree.leaves(
        jax.vmap(entries_of, in_axes=(0, None))(
            after.mask, jax.tree.map(lambda x: x[0], before.client["params"])
        )
    )
    pruned = 0
    for leaf, mask, old, new in zip(
        leaves, masks, before.residual, after.residual, strict=True
    ):
        assert leaf.shape == mask.shape
        pruned += (~mask).sum()
        np.testing.assert_array_equal(old.kept[:4][~mask], new.kept[:4][~mask])
        assert (old.kept[:4][mask] != new.kept[:4][mask]).any()
    assert pruned > 0


@pytest.mark.slow
def test_mappings_agree(key):
    config = with_updates(dataclasses.replace(FEEDBACK, kind="sign"), interval=1)
    ends = [
        periods(config, key, [range(4), [5, 0, 1, 2]], over_clients=mapping)[0][-1]
        for mapping in (clients.scan, clients.vmap, clients.chunks(3))
    ]
    for other in ends[1:]:
        assert_close(ends[0].client, other.client, 1e-4)
        assert_close(ends[0].residual, other.residual, 1e-4)


def test_memory_is_that_of_the_state(key):
    config = with_updates(FEEDBACK)
    state = jax.eval_shape(algorithm(config).init, key)
    kept = sum(4 * leaf.size for leaf in jax.tree.leaves(state.residual))
    assert feedback_bytes(tiny_model(), config, CLIENTS) == kept > 0
    assert feedback_bytes(tiny_model(), with_updates(TOP), CLIENTS) == 0


def test_random_k_is_sent_without_its_factor_under_feedback(key):
    how = CompressorConfig(kind="random_k", keep=0.1, feedback="error").compressor()
    x, mask = jnp.ones(50), jnp.ones(50, bool)
    (state,) = init_layers(how, [x])
    payload, state = how.compress(key, x, mask, state)
    found = np.asarray(how.decompress(key, payload, mask))
    assert sorted(set(found.tolist())) == [0.0, 1.0] and found.sum() == 5
    np.testing.assert_array_equal(state.kept, 1.0 - found)


@pytest.mark.slow
def test_feedback_needs_clients_and_a_contraction(key):
    with pytest.raises(ValueError, match="num_clients=None: expected the number of cl"):
        fedsl(tiny_model(), with_updates(FEEDBACK)).init(key)
    with pytest.raises(ValueError, match="feedback='error' with kind='terngrad'"):
        CompressorConfig(kind="terngrad", feedback="error")
    with pytest.raises(ValueError, match="feedback='ef21' with values='terngrad'"):
        CompressorConfig(kind="top_k", values="terngrad", feedback="ef21")
    CompressorConfig(kind="sign", values="terngrad", feedback="error")
    # Without a compressor there is nothing to keep.
    idle = with_updates(CompressorConfig(feedback="error"))
    assert fedsl(tiny_model(), idle).init(key).residual is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "updates", [RANDOM, dataclasses.replace(RANDOM, feedback="error")]
)
def test_an_update_that_is_no_number_is_rejected_whatever_is_drawn(updates, key):
    """Of one entry, which random-k hardly ever draws."""

    def spoilt(rate):
        def update(grads, state, params=None):
            leaves, structure = jax.tree.flatten(jax.tree.map(jnp.zeros_like, grads))
            leaves[1] = leaves[1].at[0].set(jnp.nan)
            return structure.unflatten(leaves), state

        return optax.GradientTransformation(lambda params: (), update)

    config = with_updates(updates, interval=1)
    made = algorithm(config, client_optimizer=spoilt)
    state, cohort = jax.jit(made.init)(key), tiny_cohort(key)
    after, metrics = jax.jit(made.round)(state, cohort, key)
    assert metrics.rejected.all()
    assert_equal(after.anchor, state.anchor)
    for leaf in jax.tree.leaves(after.residual):
        assert not leaf.any()
