"""A U-shaped network: the client holds both ends, and its labels stay at home."""

import dataclasses
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.analysis.phases import BACKWARD
from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.federation.second_cut import SecondCut
from fedjax_sl.federation.server_pass import to_tails
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Options
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.registry import NETWORKS
from fedjax_sl.models.split import cut_at, recut
from fedjax_sl.models.vgg import ConvStage
from fedjax_sl.records.metrics import read_record, round_lines
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


STAGES = (
    partial(ConvStage, 4, "none", True, "xla"),
    partial(ConvStage, 6, "none", True, "xla"),
    partial(DenseStage, 8, last=False),
    partial(DenseStage, CLASSES, last=True),
)
PLAIN = FedSLConfig(
    cohort_size=3,
    interval=2,
    learning_rate=0.05,
    prune_ratio=0.0,
    bits=32,
    dropout_rate=0.0,
)
ON = dataclasses.replace(PLAIN, prune_ratio=0.5, bits=8, dropout_rate=0.25)


@cache
def cut(first, tail=0):
    return cut_at(STAGES, first, input_shape=SHAPE, num_classes=CLASSES, tail=tail)


def played(model, config, cohort, *, rounds=3, params=None):
    """The last state, and the metrics of each round."""
    init, play = programs(model)
    key = jax.random.key(3)
    state, reports = init(config, key), []
    if params is not None:
        mine = recut(params, model)
        slots = len(cohort.client_id)
        own = jax.tree.map(lambda x: jnp.stack([x] * slots), mine.client)
        state = state._replace(
            client=own, anchor=mine.client["params"], server=mine.server
        )
    for number in range(rounds):
        state, report = play(config, state, cohort, jax.random.fold_in(key, number))
        reports.append(report)
    return state, reports


def layers(state):
    """The parameters of the first client and of the server, by name."""
    own = jax.tree.map(lambda x: x[0], state.client["params"])
    return {**own, **state.server["params"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "update",
    [{}, {"server_update": "sequential"}, {"client_update": "relay"}],
    ids=["merged", "sequential", "relay"],
)
def test_where_the_tail_is_does_not_matter_to_one_client(key, update):
    """With one client, who trains a layer is only a matter of where it lies."""
    config = dataclasses.replace(PLAIN, cohort_size=1, **update)
    cohort = tiny_cohort(key, 1)
    params = cut(1).init(key)
    expected, _ = played(cut(1), config, cohort, params=params)
    for first, tail in ((1, 1), (1, 2), (2, 1)):
        found, _ = played(cut(first, tail), config, cohort, params=params)
        assert_close(layers(found), layers(expected), 1e-5)


@pytest.mark.slow
def test_with_an_average_in_every_round_it_is_the_network_cut_once(key):
    """A round of equal models, averaged at its end, is SGD on the mean loss."""
    config = dataclasses.replace(PLAIN, interval=1, momentum=0.0)
    cohort, params = tiny_cohort(key, 3), cut(2).init(key)
    expected, plain = played(cut(2), config, cohort, params=params)
    found, shaped = played(cut(1, 2), config, cohort, params=params)
    assert_close(layers(found), layers(expected), 1e-5)
    assert_close([r.loss for r in shaped], [r.loss for r in plain], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simple-cnn", "mlp", "resnet18", "vit-tiny"])
def test_every_network_may_end_at_the_client(name, key):
    found = NETWORKS[name].build(Options(width=0.05, lowering="xla", num_classes=3))
    whole = found.at(found.cuts[0])
    params = whole.init(key)
    image = jax.random.normal(key, (2, 32, 32, 3))
    expected = jax.jit(whole.predict)(params, image)
    some = {found.tails(found.cuts[0])[0], found.tails(found.cuts[0])[-1]}
    for tail in some:
        model = found.at(found.cuts[0], tail=tail)
        moved = recut(params, model)
        assert_close(jax.jit(model.predict)(moved, image), expected, 1e-5)


def test_labels_reach_the_server_in_gradients_only(key):
    """Without what the clients return, no label has an effect on it."""
    model, cohort = cut(1, 1), tiny_cohort(key, 3)
    params = model.init(key)
    batch = jax.tree.map(lambda x: x[:, 0], batches_of(cohort))
    sent = jax.random.normal(key, (3, 5, *model.cut_shape()))
    _, tail = model.parts(params.client)

    def gradients(labels, factor):
        served = to_tails(
            model,
            params.server,
            sent,
            batch._replace(label=labels),
            weights=jnp.full((3,), 1 / 3),
            layers=model.tail,
            tail=jax.tree.map(lambda x: jnp.stack([x] * 3), tail),
            each=clients.at_once,
            second=SecondCut(
                down=lambda features: (features, None),
                up=lambda grad, _: (factor * grad, None),
            ),
        )
        return served.server, served.at_cut

    other = (batch.label + 1) % CLASSES
    silent = jax.jit(gradients)(batch.label, 0.0)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(silent))
    told = [jax.jit(gradients)(labels, 1.0) for labels in (batch.label, other)]
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, told), strict=True))


def test_every_bit_by_hand(key):
    model, cohort = cut(1, 2), tiny_cohort(key, 3, batch=5)
    _, reports = played(model, PLAIN, cohort)
    links = jax.tree.map(lambda *x: np.stack(x), *[r.links for r in reports])
    bits = traffic(links)
    values = math.prod(model.tail_shape())
    assert (bits.features_down == 5 * values * 32).all()
    assert (bits.gradients_up == 5 * values * 32).all()
    assert (bits.labels_up == 0).all()
    assert (bits.activations_up == 5 * math.prod(model.cut_shape()) * 32).all()
    held = sum(x.size for x in jax.tree.leaves(model.init(key).client["params"]))
    np.testing.assert_array_equal(bits.model_down[:, 0], [32 * held, 0, 32 * held])
    np.testing.assert_array_equal(bits.updates_up[:, 0], [0, 32 * held, 0])
    np.testing.assert_array_equal(
        bits.uplink, bits.activations_up + bits.gradients_up + bits.updates_up
    )


@pytest.mark.slow
def test_the_scoring_pass_crosses_both_cuts(key):
    config = dataclasses.replace(ON, scoring="pass")
    model, cohort = cut(1, 1), tiny_cohort(key, 3, batch=5)
    _, reports = played(model, config, cohort, rounds=2)
    sent = [int(report.links.features_down.entries[0]) for report in reports]
    assert sent == [10 * 8, 5 * 8]


def test_pruning_takes_hidden_units_of_the_tail_and_no_logit(key):
    can = prunable(cut(1, 2))
    assert [group.size for group in can.groups] == [4, 8]
    assert [member.path[0] for member in can.groups[1].kernels] == ["stage_02"]
    assert "stage_03" in {member.path[0] for member in can.groups[1].others}
    state, reports = played(cut(1, 2), ON, tiny_cohort(key, 3))
    for group in can.groups:
        kept = channels_kept(group, jax.tree.map(lambda m: m[0], state.mask))
        assert kept.sum() == group.size // 2
    _, unpruned = played(cut(1, 2), PLAIN, tiny_cohort(key, 3), rounds=1)
    # Half of the hidden units: half of both products of the tail.
    assert reports[-1].work.tail[0] == unpruned[0].work.tail[0] / 2


@pytest.mark.slow
def test_absent_clients_change_nothing(key):
    cohort = tiny_cohort(key, 3)
    gone = cohort._replace(num_examples=cohort.num_examples.at[2].set(0))
    batches = batches_of(gone)
    other = with_batches(
        gone, batches._replace(label=batches.label.at[2].add(1) % CLASSES)
    )
    found = [played(cut(1, 1), ON, cohort)[0] for cohort in (gone, other)]
    assert_equal(*found)


@pytest.mark.slow
def test_gradients_that_arrive_not_finite_are_rejected(key):
    """The client with a fault has no effect on the others' parameters."""
    cohort = tiny_cohort(key, 3)
    fault = jnp.array([1.0, 1.0, jnp.inf])
    rejected, reports = played(cut(1, 1), PLAIN, cohort._replace(fault=fault), rounds=2)
    assert [list(r.rejected) for r in reports] == [[False, False, True]] * 2
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(layers(rejected)))
    without, _ = played(
        cut(1, 1),
        PLAIN,
        cohort._replace(num_examples=cohort.num_examples.at[2].set(0)),
        rounds=2,
    )
    assert_close(rejected.server["params"], without.server["params"], 1e-5)


def test_the_server_waits_for_what_is_behind_the_second_cut(key):
    """Seconds of the tail: features, both of its passes, and their gradients."""
    model, channel = cut(1, 2), Channel(fading=False, clock_hz=(1e9,))
    _, reports = played(model, PLAIN, tiny_cohort(key, 3))
    record = record_of(jax.tree.map(lambda *x: np.stack(x), *reports))
    found = round_costs(channel, record)
    without = record._replace(
        traffic=record.traffic._replace(
            features_down=0 * record.client_id, gradients_up=0 * record.client_id
        ),
        client_macs=record.client_macs - record.tail_macs,
        tail_macs=0 * record.tail_macs,
    )
    np.testing.assert_allclose(
        found.seconds - found.tail, round_costs(channel, without).seconds, rtol=1e-6
    )
    macs = 1e12
    longer = record._replace(
        client_macs=record.client_macs + macs, tail_macs=record.tail_macs + macs
    )
    computing = (1 + BACKWARD) * macs / channel.macs_per_cycle / channel.clock_hz[0]
    took = round_costs(channel, longer)
    for name in ("tail", "seconds"):
        more = getattr(took, name) - getattr(found, name)
        np.testing.assert_allclose(more, computing, rtol=1e-6)
    assert (record.tail_macs > 0).all()
    # In turns, the parts of all clients add up.
    turns = round_costs(channel, longer, sequential="exchanges")
    assert (turns.tail > 3 * computing).all()


@pytest.mark.parametrize(
    ("first", "tail", "message"),
    [
        (2, 9, "tail=9 behind cut=2: expected 0 or 1 layers"),
        (3, 1, "tail=1 behind cut=3: expected 0 layers"),
    ],
)
def test_an_illegal_tail_is_refused(first, tail, message):
    found = Network(
        stages=tuple(map(Stage, STAGES)), input_shape=SHAPE, num_classes=CLASSES
    )
    with pytest.raises(InputError, match=message):
        found.at(first, tail=tail)


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0, 2])
def test_lines_of_rounds_read_back_as_the_record(key, tail):
    """A network without a second cut has no columns of it, and reads as 0 there."""
    _, reports = played(cut(1, tail), PLAIN, tiny_cohort(key, 3))
    rounds = jax.tree.map(lambda *x: np.stack(x), *reports)
    lines = round_lines(0, rounds)
    assert ("gradients_up_bits" in lines[0]) == ("tail_macs" in lines[0]) == bool(tail)
    assert_equal(read_record(lines), record_of(rounds))


def test_a_mean_gradient_is_of_a_network_cut_once():
    """The server could not leave out a client that fails at the second cut."""
    config = dataclasses.replace(PLAIN, client_update="local", backward="mean")
    with pytest.raises(InputError, match="backward='mean'.*without a tail"):
        fedsl(cut(1, 1), config, num_clients=3)


def test_levels_that_follow_the_loss_are_of_a_network_cut_once():
    """The loss is the client's, and no message brings it to the server."""
    how = {
        "levels": LevelConfig(adapt="time"),
        "updates": CompressorConfig(kind="qsgd"),
    }
    with pytest.raises(InputError, match="levels.adapt='time'.*a tail, whose loss"):
        fedsl(cut(1, 1), dataclasses.replace(PLAIN, **how))


@pytest.mark.slow
def test_own_tails_stay_with_their_clients(key):
    """PSL over two cuts: nothing of a client's layers is sent after the first round."""
    config = dataclasses.replace(PLAIN, client_update="local")
    state, reports = played(cut(1, 1), config, tiny_cohort(key, 3))
    bits = record_of(jax.tree.map(lambda *x: np.stack(x), *reports)).traffic
    assert not bits.updates_up.any() and not bits.model_down[1:].any()
    assert (bits.gradients_up > 0).all()
    tails = state.client["params"]["stage_03"]["dense"]["kernel"]
    assert (tails[0] != tails[1]).any()
