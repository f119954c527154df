"""A mask costs what must be sent for both sides to know it, and where it is sent."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import kept
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.bit_allocation import BitAllocation
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.compute import scored
from fedjax_sl.fedsl.mask_bits import mask_bits
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.fedsl.message import quantized_link
from fedjax_sl.fedsl.traffic import Counts, links, sizes_of
from fedjax_sl.models.network import network
from fedjax_sl.models.prunable import prunable
from fedjax_sl.traffic import bits as bits_of
from tests.worlds import tiny_model


CONFIG = FedSLConfig(
    cohort_size=4, prune_ratio=(0.5, 0.0), prune_end=0, bits=32, dropout_rate=0.0
)
IDS = jnp.arange(4)
PRESENT = np.array([1, 1, 1, 0])
PRUNES = np.array([1, 0, 1, 0])
CHANNELS, FILTERS, ENTRIES = 6, 4 + 6, 9 * 2 * 4 + 9 * 4 * 6


@partial(jax.jit, static_argnames="change")
def links_of(params, starts, ends, change):
    """The links of four clients with a changed configuration.

    Client 1 does not prune, 3 is absent.
    """
    config, model = dataclasses.replace(CONFIG, **dict(change)), tiny_model()
    settings = client_configs(config, IDS)
    scores = magnitude_scores(params)
    num_kept = jax.vmap(
        lambda ratio: kept(masks(config, prunable(model), scores, ratio), params)
    )(settings.prune_ratio)
    sizes, none = sizes_of(config, model), jnp.zeros(4, jnp.int32)
    counts = Counts(
        present=jnp.asarray(PRESENT > 0),
        examples=5 * jnp.asarray(PRESENT),
        scored=none,
        bitmap=none,
        activations=Link.float32(none),
        returned=none,
        back=None,
        kept=num_kept,
        prunes=(num_kept < sizes.params) & (PRESENT > 0),
        update=quantized_link(
            config, BitAllocation(settings.upload_bits, none), num_kept, sizes.tensors
        ),
    )
    return links(config, sizes, settings, counts, starts=starts, ends=ends)


def sent(starts, ends, key, **change):
    """Side bits of models down, updates up and activations up."""
    params, settings = tiny_model().init(key).client["params"], tuple(change.items())
    found = links_of(params, jnp.bool_(starts), jnp.bool_(ends), settings)
    using = (found.model_down, found.updates_up, found.activations_up)
    for link in using:  # side information is part of the bits
        assert (bits_of(link) >= link.side).all()
    return [np.asarray(link.side) for link in using]


# What is known, and what is sent of flags: scores up and masks down as a period starts,
# masks up as it ends.
SENT = {
    ("taylor", "per_client"): (0, 0, 1),
    ("taylor", "common"): (32, 1, 0),
    ("magnitude", "per_client"): (0, 0, 0),
    ("magnitude", "common"): (0, 0, 0),
    ("random", "per_client"): (0, 0, 0),
    ("random", "common"): (0, 1, 0),
}


@pytest.mark.parametrize("thin_cut", [True, False])
@pytest.mark.parametrize("granularity", ["filter", "weight"])
@pytest.mark.parametrize(("how", "expected"), SENT.items(), ids=map("-".join, SENT))
def test_what_must_be_sent_is_charged_once(key, how, expected, granularity, thin_cut):
    """Flags of the channels at the cut, if these are thinned, come first."""
    flags = FILTERS if granularity == "filter" else ENTRIES
    first = CHANNELS * (thin_cut and granularity == "filter") * expected[2]
    scores, down, up = (factor * flags for factor in expected)
    change = {"granularity": granularity, "importance": how[0], "mask_scope": how[1]}
    change |= {"thin_cut": thin_cut}
    for starts, ends in itertools.product((False, True), repeat=2):
        found = sent(starts, ends, key, **change)
        np.testing.assert_array_equal(found[0], starts * down * PRUNES)
        # Everybody's scores are averaged, of those that do not prune, too.
        expected_up = starts * scores * PRESENT + ends * (up - first) * PRUNES
        np.testing.assert_array_equal(found[1], expected_up)
        np.testing.assert_array_equal(found[2], starts * first * PRUNES)


def test_without_a_shared_key_a_random_mask_is_sent(key):
    change = {"importance": "random", "dropout_mask": "bitmap"}
    _, updates, _ = sent(False, True, key, **change)
    np.testing.assert_array_equal(updates, (FILTERS - CHANNELS) * PRUNES)
    _, _, activations = sent(True, False, key, **change)
    np.testing.assert_array_equal(activations, CHANNELS * PRUNES)


@pytest.mark.parametrize("scope", ["per_client", "common"])
def test_nothing_is_sent_of_masks_where_nobody_prunes(key, scope):
    found = sent(True, True, key, prune_ratio=0.0, mask_scope=scope)
    assert not any(side.any() for side in found)


def test_a_relay_hands_on_whole_models_and_needs_no_mask_with_them(key):
    change = {"client_update": "relay"}
    down, up, first = sent(True, True, key, **change)
    assert not down.any() and not up.any()
    # The server must know which channels a client sends, whoever has the model.
    np.testing.assert_array_equal(first, CHANNELS * PRUNES)
    down, up, _ = sent(True, True, key, **change, mask_scope="common")
    np.testing.assert_array_equal(down, FILTERS * PRUNES)
    np.testing.assert_array_equal(up, 32 * FILTERS * PRESENT)


@pytest.mark.parametrize(("scope", "charged"), [("per_client", 0), ("common", 5)])
def test_who_does_not_prune_scores_for_the_others(scope, charged):
    config = dataclasses.replace(CONFIG, mask_scope=scope, scoring="pass")
    examples = 5 * jnp.asarray(PRESENT)
    found = scored(config, client_configs(config, IDS), examples, jnp.bool_(True))
    np.testing.assert_array_equal(found, [5, charged, 5, 0])


def by_hand(*more):
    """A convolution [3, 3, 2, 4] and a dense kernel [4, 3]; biases have no flag."""
    stages = (nn.Conv(4, (3, 3)), nn.Dense(3), *more, nn.Dense(5))
    model = network(stages, input_shape=(8, 8, 2), num_classes=5).at(2 + len(more))
    return prunable(model), model.init(jax.random.key(0)).client["params"]


def test_of_a_network_by_hand():
    net = by_hand()
    common = FedSLConfig(mask_scope="common")
    assert mask_bits(common, *net) == (32 * 7, 7, 0, 0)
    by_weight = dataclasses.replace(common, granularity="weight")
    assert mask_bits(by_weight, *net) == (32 * 84, 84, 0, 0)
    assert mask_bits(FedSLConfig(), *net) == (0, 0, 3, 4)


def test_what_is_sent_may_be_no_channels_of_a_layer():
    """Flattened, rows, columns and channels are one axis, of which nothing is left."""
    flat = by_hand(lambda x: x.reshape(len(x), -1))
    assert mask_bits(FedSLConfig(), *flat) == (0, 0, 0, 7)


@pytest.mark.parametrize("own", [False, True])
def test_a_server_ranks_magnitudes_only_of_models_that_it_has(own, key):
    """Which channels a client of its own model sends, the server has to be told."""
    update = "local" if own else "parallel"
    config = FedSLConfig(importance="magnitude", client_update=update)
    params = tiny_model().init(key).client["params"]
    found = mask_bits(config, prunable(tiny_model()), params)
    assert (found.at_cut > 0) == own
