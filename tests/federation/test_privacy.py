"""Noise added to updates: its law, who it is keyed by, and nothing where it is 0."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.federation.combine import clipped
from fedjax_sl.federation.privacy import gaussian_mechanism
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from tests.worlds import SHAPE, TwoBlocks, assert_equal, tiny_cohort, tiny_model


SPLIT = FedSLConfig(cohort_size=4, interval=1, prune_ratio=0.0, dropout_rate=0.0)
LAYERS = FedLPQConfig(cohort_size=4, bits=8, learning_rate=0.01, keep_probability=1.0)


@cache
def programs(kind):
    """Compiled `init` and `round`, the configuration's numbers being arguments."""

    def algorithm(config):
        if kind is FedSLConfig:
            return fedsl(tiny_model(), config)
        net = TwoBlocks()
        return fedlpq(net, config, num_clients=6, input_shape=SHAPE)

    init = jax.jit(lambda config, key: algorithm(config).init(key))
    return init, jax.jit(lambda config, *rest: algorithm(config).round(*rest))


def played(key, config, ids=(0, 1, 2, 3), **change):
    """The state before and after a round, and its metrics."""
    config = dataclasses.replace(config, **change)
    init, round = programs(type(config))
    state = init(config, jax.random.key(7))
    return state, *round(config, state, tiny_cohort(key, ids=ids), key)


def moved(key, config, **change):
    """By how much every parameter that is averaged moved, as one vector."""
    before, after, _ = played(key, config, **change)
    if isinstance(config, FedSLConfig):
        models = [jax.tree.map(lambda x: x[0], s.client) for s in (before, after)]
    else:
        models = [before.variables, after.variables]
    apart = jax.tree.map(jnp.subtract, models[1], models[0])
    return np.concatenate([x.reshape(-1) for x in jax.tree.leaves(apart)])


def test_noise_is_that_of_the_clipped_norm(key):
    tree = {"a": jnp.full((100, 50), 3.0), "b": jnp.arange(2000.0)}
    noisy = gaussian_mechanism(key, tree, clip_norm=2.0, noise_multiplier=0.25)
    noise = jax.tree.map(jnp.subtract, noisy, clipped(tree, 2.0))
    for leaf in jax.tree.leaves(noise):
        size = leaf.size
        assert abs(leaf.mean()) < 5 * 0.5 / np.sqrt(size)
        assert abs(leaf.std() / 0.5 - 1) < 5 / np.sqrt(2 * size)
    assert_equal(
        gaussian_mechanism(key, tree, clip_norm=2.0, noise_multiplier=0.0),
        clipped(tree, 2.0),
    )


@pytest.mark.parametrize("config", [SPLIT, LAYERS])
@pytest.mark.slow
def test_without_noise_the_round_is_bit_for_bit_as_before(key, config):
    """Clipping takes place, the quantiser too, and I = 1 sends the gradient itself."""
    plain = played(key, config, clip_norm=1e-3)
    zero = played(key, config, clip_norm=1e-3, noise_multiplier=0.0)
    assert_equal(plain, zero)
    assert np.abs(moved(key, config, clip_norm=1e-3)).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("config", [SPLIT, LAYERS])
def test_every_entry_of_the_mean_carries_the_noise_of_all(key, config):
    """At rate 0 nothing but noise is sent: z C / sqrt(K) in the mean, quantised or not.

    Statistics of norms move by themselves, but C is too small for that to be seen.
    """
    still = dict(learning_rate=0.0, clip_norm=1e-4, noise_multiplier=50.0)
    for bits in (8, 32):
        noise = moved(key, config, bits=bits, **still)
        expected = 50.0 * 1e-4 / np.sqrt(4)
        assert abs(noise.std() / expected - 1) < 5 / np.sqrt(2 * noise.size) + 0.01
        assert abs(noise.mean()) < 5 * expected / np.sqrt(noise.size)
    assert (noise != 0).all()
    coarse = moved(key, config, bits=2, **still)
    assert (coarse == 0).any()  # noise is in what is quantised, not on top of it


@pytest.mark.parametrize("config", [SPLIT, LAYERS])
def test_noise_belongs_to_the_client(key, config):
    """In another place, and beside others, it is the same; of another client it is not.

    Three of four clients stay, so that the difference is of two clients' noise.
    """
    still = dict(learning_rate=0.0, clip_norm=1e-4, noise_multiplier=50.0, bits=32)
    here = moved(key, config, ids=(0, 1, 2, 3), **still)
    turned = moved(key, config, ids=(3, 2, 1, 0), **still)
    other = moved(key, config, ids=(0, 1, 2, 5), **still)
    np.testing.assert_allclose(here, turned, atol=1e-6)
    expected = 50.0 * 1e-4 * np.sqrt(2) / 4
    assert abs((here - other).std() / expected - 1) < 5 / np.sqrt(2 * here.size)


def test_noise_that_would_not_protect_is_refused():
    with pytest.raises(ValueError, match="noise_multiplier=1.0: expected clip_norm"):
        FedLPQConfig(noise_multiplier=1.0)
    with pytest.raises(ValueError, match="unit='tensor' with noise_multiplier"):
        FedLPQConfig(clip_norm=1.0, noise_multiplier=1.0, unit="tensor")
    with pytest.raises(ValueError, match="a number >= 0"):
        FedSLConfig(clip_norm=1.0, noise_multiplier=-1.0)
    with pytest.raises(ValueError, match="client_update='relay'"):
        FedSLConfig(clip_norm=1.0, noise_multiplier=1.0, client_update="relay")
    config = FedSLConfig(clip_norm=1.0, noise_multiplier=1.0)
    with pytest.raises(ValueError, match="keep no statistics"):
        fedsl(tiny_model(norm="batch"), config)
