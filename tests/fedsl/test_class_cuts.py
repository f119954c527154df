"""Each class of devices is cut at another layer."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients, devices
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.estimates.traffic import at_rounds, expected, most
from fedjax_sl.models.class_cuts import cut_models, held
from fedjax_sl.models.cost import macs
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.network import network as network_of
from fedjax_sl.models.options import Options
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.resnet import PooledHead, ResidualBlock, Stem
from fedjax_sl.models.vgg import ConvStage
from fedjax_sl.models.vit import EncoderBlock, MeanHead, Patches, Width
from fedjax_sl.traffic import record_of, traffic
from tests.worlds import (
    CLASSES,
    SHAPE,
    assert_close,
    assert_equal,
    batches_of,
    programs,
    tiny_cohort,
    with_batches,
)


CUTS = (1, 3, 2)
"""Layers of the clients 0, 1 and 2."""

# One value for each client, so that tests which change only numbers share a program.
PLAIN = FedSLConfig(
    cohort_size=3,
    interval=2,
    learning_rate=0.05,
    prune_ratio=(0.0,) * 3,
    prune_end=0,
    grad_bits=(32,) * 3,
    upload_bits=(32,) * 3,
    down_bits=(32,) * 3,
    dropout_rate=(0.0,) * 3,
)
ON = dataclasses.replace(
    PLAIN,
    prune_ratio=(0.5,) * 3,
    grad_bits=(6,) * 3,
    upload_bits=(5,) * 3,
    down_bits=(4,) * 3,
    dropout_rate=(0.25,) * 3,
)


@cache
def network(norm="none"):
    parts = (
        partial(ConvStage, 4, norm, False, "xla"),
        partial(ConvStage, 6, norm, True, "xla"),
        partial(ConvStage, 8, norm, True, "xla"),
        partial(DenseStage, CLASSES, last=True),
    )
    return Network(
        stages=tuple(map(Stage, parts)), input_shape=SHAPE, num_classes=CLASSES
    )


@cache
def cut(cuts, norm="none", tail=0):
    return network(norm).at(cuts, tail=tail)


NARROW = Options(lowering="xla")
RESIDUAL = (
    Stage(partial(Stem, 4, NARROW)),
    Stage(partial(ResidualBlock, 4, 1, NARROW), layers=2),
    Stage(partial(ResidualBlock, 6, 2, NARROW), layers=2),
    Stage(partial(PooledHead, CLASSES, NARROW)),
)
ATTENTION = (
    Stage(partial(Patches, 8), layers=0, last_of_client=False),
    *[Stage(partial(EncoderBlock, Width(8, 2)))] * 3,
    Stage(partial(MeanHead, CLASSES)),
)
BLOCKS = {"residual": (RESIDUAL, (1, 5, 3)), "attention": (ATTENTION, (1, 3, 2))}
"""Stages of networks, and a cut of each client."""


@cache
def of_blocks(kind, cut):
    found = Network(stages=BLOCKS[kind][0], input_shape=SHAPE, num_classes=CLASSES)
    return found.at(cut)


def played(model, config, cohort, rounds=3):
    """The last state, and the metrics of all rounds."""
    init, play = programs(model)
    key = jax.random.key(3)
    state, reports = init(config, key), []
    for number in range(rounds):
        state, report = play(config, state, cohort, jax.random.fold_in(key, number))
        reports.append(report)
    return state, jax.tree.map(lambda *x: np.stack(x), *reports)


def of_client(tree, k):
    return jax.tree.map(lambda x: x[k], tree)


@pytest.mark.parametrize(
    "changes",
    [{}, {"server_update": "sequential"}],
    ids=["merged", "sequential"],
)
def test_with_everything_off_it_is_the_network_at_the_deepest_cut(key, changes):
    """Who computes a layer, and on which side, does not matter to what is learnt."""
    config, cohort = dataclasses.replace(PLAIN, **changes), tiny_cohort(key, 3)
    found, plain = (played(cut(cuts), config, cohort) for cuts in (CUTS, 3))
    assert_close(found[0].client, plain[0].client, 1e-5)
    assert_close(found[0].server, plain[0].server, 1e-5)
    assert_close(found[1].loss, plain[1].loss, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
def test_it_is_so_of_residual_and_attention_blocks(key, kind):
    cohort, cuts = tiny_cohort(key, 3), BLOCKS[kind][1]
    found, plain = (
        played(of_blocks(kind, cut), PLAIN, cohort) for cut in (cuts, max(cuts))
    )
    assert_close(found[0].client, plain[0].client, 1e-5)
    assert_close(found[0].server, plain[0].server, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
def test_each_counts_what_it_holds_of_such_blocks(key, kind):
    """Pruned, quantised and coded: the bits and MACs of the network at its own cut."""
    config = dataclasses.replace(ON, dropout_rate=(0.0,) * 3)
    cohort, cuts = tiny_cohort(key, 3), BLOCKS[kind][1]
    mixed = played(of_blocks(kind, cuts), config, cohort)[1]
    assert (mixed.kept_ratio < 1).any()
    for k, layers in enumerate(cuts):
        alone = played(of_blocks(kind, layers), config, cohort)[1]
        found, plain = (of_slot(tree, k) for tree in (mixed, alone))
        assert_equal(found.links, plain.links)
        assert_close(found.work, plain.work, 1e-6)
        assert_close(found.kept_ratio, plain.kept_ratio, 1e-6)


@pytest.mark.slow
def test_on_several_devices_it_is_the_same(key):
    """Two of them: one has two clients, and the other one and padding."""
    cohort = tiny_cohort(key, 3)
    found, _ = played(cut(CUTS), ON, cohort)
    over = devices.sharded(devices.mesh(2), clients.scan)
    algorithm = fedsl(cut(CUTS), ON, over_clients=over)
    key = jax.random.key(3)
    state, step = jax.jit(algorithm.init)(key), jax.jit(algorithm.round)
    for number in range(3):
        state, _ = step(state, cohort, jax.random.fold_in(key, number))
    assert_close(found.client, state.client, 1e-4)
    assert_close(found.server, state.server, 1e-4)


@pytest.mark.slow
def test_a_tail_goes_with_any_cut(key):
    """U-shaped: the layers in between are each client's own, the tail its own, too."""
    cohort = tiny_cohort(key, 3)
    shaped = [played(cut(cuts, tail=1), PLAIN, cohort) for cuts in ((1, 2, 1), 2)]
    assert_close(shaped[0][0].client, shaped[1][0].client, 1e-5)
    assert (shaped[0][1].links.features_down.entries > 0).all()


def test_equal_cuts_are_one_cut():
    assert cut((2, 2)) == cut(2) == cut((2,))


EACH = np.array(CUTS) - 1
"""Numbers of the clients' cuts among 1, 2 and 3."""
PARAMS = np.array([72 + 4, 76 + 216 + 6, 298 + 432 + 8])[EACH]
MACS = np.array([4608, 4608 + 13824, 18432 + 6912])[EACH]
ACTIVATIONS = np.array([8 * 8 * 4, 4 * 4 * 6, 2 * 2 * 8])[EACH]


def test_every_count_by_hand(key):
    _, reports = played(cut(CUTS), PLAIN, tiny_cohort(key, 3, batch=5))
    bits = traffic(reports.links)
    np.testing.assert_array_equal(bits.activations_up[0], 5 * 32 * ACTIVATIONS)
    np.testing.assert_array_equal(bits.gradients_down[0], 5 * 32 * ACTIVATIONS)
    np.testing.assert_array_equal(bits.updates_up, np.outer([0, 1, 0], 32 * PARAMS))
    np.testing.assert_array_equal(bits.model_down, np.outer([1, 0, 1], 32 * PARAMS))
    np.testing.assert_array_equal(reports.work.client[0], 5 * MACS)
    np.testing.assert_array_equal(reports.work.server[0], 5 * (25344 + 96 - MACS))
    np.testing.assert_array_equal(reports.kept_ratio, 1.0)


@pytest.mark.slow
def test_a_client_counts_as_in_the_network_at_its_own_cut(key):
    """Masks, norms of messages and bitmaps, too; a pruned share is of what it holds."""
    # What a dropout takes is drawn, and pruned channels depend on the weights.
    config, cohort = (
        dataclasses.replace(ON, dropout_rate=(0.0,) * 3),
        tiny_cohort(key, 3),
    )
    mixed = played(cut(CUTS), config, cohort)[1]
    for k, layers in enumerate(CUTS):
        alone = played(cut(layers), config, cohort)[1]
        found, plain = (of_slot(tree, k) for tree in (mixed, alone))
        assert_equal(found.links, plain.links)
        assert_close(found.work, plain.work, 1e-6)
        assert_close(found.kept_ratio, plain.kept_ratio, 1e-6)


def of_slot(tree, k):
    return jax.tree.map(lambda x: x[:, k], tree)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["filter", "weight"])
def test_a_client_prunes_what_it_holds(key, granularity):
    config = dataclasses.replace(ON, granularity=granularity)
    state, _ = played(cut(CUTS), config, tiny_cohort(key, 3))
    for k, at in enumerate(cut(CUTS).by_class):
        mask = of_client(state.mask, k)
        for name, entries in mask.items():
            shares = [leaf.mean() for leaf in jax.tree.leaves(entries)]
            if name in held(at, mask):
                assert min(shares) <= 0.5
            else:
                assert all(share == 1.0 for share in shares)


def test_a_client_quantises_the_gradient_of_what_it_holds(key):
    """What is behind its cut receives the gradient as it is, bit for bit."""
    coarse = dataclasses.replace(PLAIN, grad_bits=(2, 32, 32), interval=4)
    runs = [
        played(cut(CUTS), config, tiny_cohort(key, 3), rounds=1)[0]
        for config in (coarse, dataclasses.replace(coarse, grad_bits=(32, 32, 32)))
    ]
    found, plain = (state.client["params"] for state in runs)
    for name in found:
        same = jax.tree.map(lambda x, y: (x == y).all(), found[name], plain[name])
        everywhere = all(jax.tree.leaves(same))
        assert everywhere == (name != "stage_00")
    assert_equal(of_client(found, 1), of_client(plain, 1))


def test_a_client_quantises_the_update_of_what_it_holds(key):
    """The average of layers that only the second holds errs by its message alone."""
    runs = [
        played(
            cut(CUTS),
            dataclasses.replace(PLAIN, upload_bits=(2, most, 2)),
            tiny_cohort(key, 3),
            rounds=2,
        )[0].client["params"]
        for most in (32, 2)
    ]
    exact = played(cut(CUTS), PLAIN, tiny_cohort(key, 3), rounds=2)[0].client["params"]
    assert_close(runs[0]["stage_02"], exact["stage_02"], 1e-6)
    for found, name in ((runs[0], "stage_01"), (runs[1], "stage_02")):
        kernel = found[name]["conv"]["kernel"] - exact[name]["conv"]["kernel"]
        assert jnp.abs(kernel).max() > 1e-4


def test_dropped_activations_reach_their_own_client_only(key):
    """At a rate of almost 1 no gradient comes back to what the first client holds."""
    config = dataclasses.replace(PLAIN, dropout_rate=(1 - 1e-6, 0.0, 0.0), interval=4)
    init, _ = programs(cut(CUTS))
    start = init(config, jax.random.key(3)).client["params"]
    found, plain = (
        played(cut(CUTS), settings, tiny_cohort(key, 3), rounds=1)[0].client["params"]
        for settings in (config, dataclasses.replace(config, dropout_rate=(0.0,) * 3))
    )
    assert_equal(of_client(found, 0)["stage_00"], of_client(start, 0)["stage_00"])
    moved = of_client(plain, 0)["stage_00"]["conv"]["kernel"]
    assert (moved != of_client(start, 0)["stage_00"]["conv"]["kernel"]).all()
    for k in (1, 2):
        assert_equal(of_client(found, k), of_client(plain, k))


def test_gradients_come_back_quantised_at_the_own_cut(key):
    coarse = dataclasses.replace(PLAIN, down_bits=(2, 32, 32), interval=4)
    found, plain = (
        played(cut(CUTS), config, tiny_cohort(key, 3), rounds=1)[0].client["params"]
        for config in (coarse, dataclasses.replace(coarse, down_bits=(32,) * 3))
    )
    assert (found["stage_00"]["conv"]["kernel"] != plain["stage_00"]["conv"]["kernel"])[
        0
    ].any()
    behind = [tree["stage_01"] for tree in (found, plain)]
    assert_equal(*(of_client(tree, 0) for tree in behind))
    assert_equal(of_client(found, 1), of_client(plain, 1))


def test_absent_clients_change_nothing(key):
    cohort = tiny_cohort(key, 3)
    gone = cohort._replace(num_examples=cohort.num_examples.at[0].set(0))
    batches = batches_of(gone)
    other = with_batches(gone, batches._replace(image=batches.image.at[0].set(jnp.nan)))
    runs = [played(cut(CUTS), ON, cohort) for cohort in (gone, other)]
    assert_equal(runs[0][0], runs[1][0])
    assert (traffic(runs[0][1].links).uplink[:, 0] == 0).all()


def finite_only(x):
    return jnp.where(jnp.isfinite(x), x, 0.0)


def flat(x):
    return x.reshape(len(x), -1)


@pytest.mark.slow
def test_activations_that_are_not_finite_are_rejected_at_the_own_cut(key):
    """Even if a later layer, on the server, makes them finite."""
    parts = [nn.Conv(4, (3, 3)), finite_only, flat, nn.Dense(CLASSES)]
    model = network_of(parts, input_shape=SHAPE, num_classes=CLASSES).at((1, 2, 2))
    cohort = tiny_cohort(key, 3)
    fault = jnp.array([jnp.nan, 1.0, 1.0])
    state, reports = played(model, PLAIN, cohort._replace(fault=fault), rounds=1)
    np.testing.assert_array_equal(reports.rejected[0], [True, False, False])
    gone = cohort._replace(num_examples=cohort.num_examples.at[0].set(0))
    without, _ = played(model, PLAIN, gone, rounds=1)
    assert_close(state.server["params"], without.server["params"], 1e-5)


COMPRESSED = dataclasses.replace(
    ON,
    grad_bits=(32,) * 3,
    upload_bits=(32,) * 3,
    down_bits=(32,) * 3,
    activations=CompressorConfig(kind="top_k", keep=0.5),
    cut_gradients=CompressorConfig(kind="qsgd", bits=4),
    updates=CompressorConfig(kind="qsgd", bits=4, feedback="error"),
    models=CompressorConfig(kind="qsgd", bits=6),
)


@cache
def compressed():
    """The state after two periods of compressed messages, and the metrics."""
    key = jax.random.key(3)
    algorithm = fedsl(cut(CUTS), COMPRESSED, num_clients=3)
    state, reports = jax.jit(algorithm.init)(key), []
    play = jax.jit(algorithm.round)
    for number in range(3):
        own = jax.random.fold_in(key, number)
        state, report = play(state, tiny_cohort(key, 3), own)
        reports.append(report)
    return state, jax.tree.map(lambda *x: np.stack(x), *reports)


@pytest.mark.slow
@pytest.mark.parametrize("config", [ON, COMPRESSED], ids=["quantised", "compressed"])
def test_nobody_sends_more_than_the_bound(key, config):
    model = cut(CUTS)
    if config is COMPRESSED:
        _, reports = compressed()
    else:
        _, reports = played(model, config, tiny_cohort(key, 3))
    record = record_of(reports)
    bounds = most(model, config, np.full(3, 5), batch_size=5)
    bound = at_rounds(bounds, np.arange(3), int(config.interval))
    for found, limit in zip(
        jax.tree.leaves(record), jax.tree.leaves(bound), strict=True
    ):
        assert (found <= limit).all()
    # Not by the deepest cut: the shallowest sends the shortest updates.
    assert bound.traffic.updates_up[-2, 0] < bound.traffic.updates_up[-2, 2]
    assert bound.traffic.updates_up[-2, 2] < bound.traffic.updates_up[-2, 1]


@pytest.mark.slow
def test_a_plain_run_sends_what_was_expected(key):
    _, reports = played(cut(CUTS), PLAIN, tiny_cohort(key, 3))
    record = record_of(reports)
    found = at_rounds(expected(cut(CUTS), PLAIN, 5), np.arange(3), 2)
    assert_equal(found, record)


def test_residuals_are_of_what_a_client_holds():
    state, reports = compressed()
    residual = jax.tree.structure(state.anchor).unflatten(state.residual)
    for k, at in enumerate(cut(CUTS).by_class):
        for name, layers in residual.items():
            kept = any((x[k] != 0).any() for x in jax.tree.leaves(layers))
            assert kept == (name in held(at, residual))
    sent = traffic(reports.links)
    # The first holds least, the second most; of the model, too, as it goes down.
    for bits in (sent.updates_up[1], sent.model_down[0]):
        assert bits[0] < bits[2] < bits[1]


@pytest.mark.slow
def test_statistics_of_norms_are_those_of_the_layers_held(key):
    """A channel that its holder pruned keeps its statistics, others learn."""
    config = dataclasses.replace(ON, interval=4)
    state, reports = played(cut(CUTS, "batch"), config, tiny_cohort(key, 3), rounds=1)
    first = of_client(state.client["batch_stats"], 0)
    pruned = ~channels_kept(
        prunable(cut(1, "batch")).groups[0], of_client(state.mask, 0)
    )
    assert pruned.sum() == 2
    assert ((first["stage_00"]["norm"]["var"] == 1) == pruned).all()
    assert (first["stage_01"]["norm"]["var"] != 1).all()
    # Two statistics of 4, 18 and 10 channels, and all parameters, as float32.
    side = 32 * 2 * np.array([4, 18, 10])
    np.testing.assert_array_equal(reports.links.model_down.side[0], side)


@pytest.mark.slow
def test_a_loop_and_a_batch_of_clients_agree(key):
    cohort = tiny_cohort(key, 3)
    looped, _ = played(cut(CUTS), ON, cohort, rounds=1)
    algorithm = fedsl(cut(CUTS), ON, over_clients=clients.vmap)
    key = jax.random.key(3)
    state, own = jax.jit(algorithm.init)(key), jax.random.fold_in(key, 0)
    batched, _ = jax.jit(algorithm.round)(state, cohort, own)
    assert_close(looped.client, batched.client, 1e-5)


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ((1, 4), "cut=4: expected 1, 2 or 3 layers on the client's side"),
        ((), r"cut=\(\): expected a number of layers for each class"),
    ],
)
def test_illegal_cuts_are_refused(cuts, message):
    with pytest.raises(InputError, match=message):
        network().at(cuts)


CLIPPED = {"noise_multiplier": {"clip_norm": 1.0}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_update", "relay"),
        ("mask_scope", "common"),
        ("restore", False),
        ("noise_multiplier", 1.0),
    ],
)
def test_options_that_need_equal_clients_are_refused(name, value):
    config = dataclasses.replace(PLAIN, **CLIPPED.get(name, {}), **{name: value})
    with pytest.raises(InputError, match=f"{name}={value!r}: expected .* several cuts"):
        fedsl(cut(CUTS), config)


def test_macs_of_a_class_are_those_of_its_network():
    assert [macs(at.client, SHAPE) for at in cut_models(cut(CUTS))] == sorted(MACS)
