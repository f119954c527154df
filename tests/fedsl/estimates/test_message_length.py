"""Lengths of updates: as the encoders write them, and never more than was said."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.fedsl.estimates.traffic import expected, most
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.fedsl.message import entries_of, sent
from fedjax_sl.models.prunable import prunable
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY, bits_of
from tests.fedsl.test_updates import PLAIN, TOP
from tests.worlds import played, tiny_model


SOME = ("qsgd-rice", "top_k-qsgd", "random_k")


@pytest.mark.parametrize("name", SOME)
def test_an_update_takes_the_bits_of_its_layers_messages(name, key):
    params = tiny_model().init(key).client["params"]
    config = dataclasses.replace(PLAIN, prune_ratio=0.5)
    mask = masks(config, prunable(tiny_model()), magnitude_scores(params), 0.5)
    tree = apply_mask(jax.tree.map(lambda x: x + 0.1, params), mask)
    message = sent(config, FAMILY[name], key, tree, mask=mask, bits=jnp.int32(32))
    how, length = FAMILY[name].compressor(), 0
    pairs = zip(
        jax.tree.leaves(tree), jax.tree.leaves(entries_of(mask, tree)), strict=True
    )
    for number, (leaf, keep) in enumerate(pairs):
        payload, _ = how.compress(jax.random.fold_in(key, number), leaf, keep, ())
        length += how.wire.encode(payload, keep).num_bits
    assert bits_of(message.link) == length
    pruned = jax.tree.map(
        lambda x, keep: x[~keep], message.values, entries_of(mask, tree)
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(pruned))


@pytest.mark.slow
@pytest.mark.parametrize("link", ["updates", "gradients"])
@pytest.mark.parametrize("name", ["qsgd-rice", "top_k-qsgd", "power_sgd"])
def test_no_round_takes_more_than_the_most(name, link):
    interval = {"updates": 2, "gradients": 1}[link]
    config = dataclasses.replace(PLAIN, cohort_size=2, interval=interval)
    config = dataclasses.replace(config, **{link: FAMILY[name]})
    kinds = expected(tiny_model(), config, batch_size=5).traffic.updates_up
    bound = most(tiny_model(), config, np.array([5, 5]), batch_size=5)
    assert (kinds <= bound.traffic.updates_up).all() and (kinds[[1, 3]] > 0).all()


@pytest.mark.slow
def test_a_gradient_that_is_the_message_is_bounded(key):
    config = dataclasses.replace(PLAIN, interval=1, gradients=TOP)
    _, metrics = played(key, config, rounds=1)
    up = np.asarray(traffic(metrics[0].links).updates_up)
    bound = most(tiny_model(), config, np.array([5] * 4), batch_size=5)
    whole = most(tiny_model(), PLAIN, np.array([5] * 4), batch_size=5)
    assert (up > 0).all() and (up <= bound.traffic.updates_up[3]).all()
    assert (bound.traffic.updates_up[3] < 0.2 * whole.traffic.updates_up[3]).all()
