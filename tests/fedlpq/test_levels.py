"""Levels that adapt in FedLP-Q: what they change, what they cost, and who knows."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation import clients
from fedjax_sl.federation.level_config import LevelConfig, one_level
from fedjax_sl.federation.levels import LEVEL_BITS
from fedjax_sl.fedlpq import fedlpq
from fedjax_sl.fedlpq.estimates.traffic import most
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.sweep import groups
from fedjax_sl.traffic import traffic
from tests.fedlpq.test_fedlpq import BATCH, EXACT, SHAPE, STEPS, N, TwoBlocks, cohort_of
from tests.fedlpq.test_updates import rounds
from tests.worlds import assert_close, assert_equal


QSGD = CompressorConfig(kind="qsgd", bits=6)
# A power of two, by which dividing is exact, whether it is traced or not.
OMEGA = CompressorConfig(kind="qsgd", bits=5, norm="l2", coder="omega")
FIXED = dataclasses.replace(EXACT, updates=QSGD, client_weight="examples")
UNEVEN = [8, 8, 4, 4, 1, 2]


def adapting(adapt, updates=QSGD, **levels):
    config = LevelConfig(adapt=adapt, **{"patience": 1, "smoothing": 0.0, **levels})
    return dataclasses.replace(FIXED, updates=updates, levels=config)


def with_bits(updates):
    return dataclasses.replace(FIXED, updates=updates)


def test_levels_that_stay_are_fixed_bits(key):
    """Models bit for bit; on top come the level, down, and the loss, up."""
    cohorts = [cohort_of(key)] * 2
    config = adapting("time", OMEGA, start=32, most=32)
    usual, ours = rounds(with_bits(OMEGA), key, cohorts)
    found, theirs = rounds(config, key, cohorts)
    assert_equal(usual[-1], found[-1]._replace(levels=None))
    before, after = ours.links, theirs.links
    assert_equal(before.updates_up._replace(side=0), after.updates_up._replace(side=0))
    assert (after.updates_up.side - before.updates_up.side == 32).all()
    assert (after.model_down.side - before.model_down.side == LEVEL_BITS).all()


@pytest.mark.slow
def test_clients_of_one_size_have_fixed_bits(key):
    usual, ours = rounds(with_bits(OMEGA), key, [cohort_of(key)])
    found, theirs = rounds(adapting("client", OMEGA), key, [cohort_of(key)])
    assert found[-1].levels is None
    assert_equal(usual[-1], found[-1])
    assert_equal(ours.links.updates_up, theirs.links.updates_up)
    told = theirs.links.model_down.side - ours.links.model_down.side
    assert (told == LEVEL_BITS).all()


@pytest.mark.slow
def test_a_client_with_more_data_sends_more_bits(key):
    cohort = cohort_of(key, counts=UNEVEN)
    _, metrics = rounds(adapting("client"), key, [cohort])
    bits = np.asarray(metrics.links.updates_up.bits)
    assert bits[0] == bits[1] >= bits[2] == bits[3] >= bits[5] >= bits[4]
    assert bits[0] > bits[4]


@pytest.mark.slow
def test_an_absent_client_is_told_nothing(key):
    _, metrics = rounds(
        adapting("both"), key, [cohort_of(key, counts=[8, 0, *[4] * 4])]
    )
    found = traffic(metrics.links)
    for link in (found.model_down, found.updates_up):
        assert (link > 0).tolist() == [True, False, *[True] * 4]


@pytest.mark.slow
def test_this_round_s_levels_follow_from_the_rounds_before(key):
    """A loss that stays is answered by the next message, not by its own."""
    still = dataclasses.replace(adapting("time", start=1), learning_rate=0.0)
    made = fedlpq(TwoBlocks(), still, num_clients=N, input_shape=SHAPE)
    state, step = jax.jit(made.init)(key), jax.jit(made.round)
    for number, (level, width) in enumerate([(1, 2), (1, 2), (2, 3), (4, 4)]):
        assert int(state.levels.level) == level
        own = jax.random.fold_in(key, number)
        state, metrics = step(state, cohort_of(key), own)
        assert set(metrics.links.updates_up.bits.tolist()) == {width}


@pytest.mark.slow
def test_a_rejected_client_s_loss_is_not_used(key):
    config = adapting("time", patience=3)
    cohort = cohort_of(key)
    broken = cohort._replace(fault=np.asarray([np.inf, *[1.0] * (N - 1)], np.float32))
    (_, state), metrics = rounds(config, key, [broken])
    loss, size = np.asarray(metrics.loss), N - 1
    assert metrics.rejected.tolist() == [True] + [False] * size
    assert state.levels.losses[-1] == pytest.approx(loss[1:].mean(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("coder", ["fixed", "range", "omega"])
@pytest.mark.parametrize("adapt", ["time", "client"])
def test_no_round_takes_more_than_the_most(adapt, coder, key):
    updates = dataclasses.replace(QSGD, coder=coder)
    config = adapting(adapt, updates, start=40, most=50)
    _, metrics = rounds(config, key, [cohort_of(key, counts=UNEVEN)])
    found = traffic(metrics.links)
    bound = most(TwoBlocks(), SHAPE, config, np.full(N, STEPS * BATCH)).traffic
    assert (found.updates_up > 0).all()
    assert (found.updates_up <= bound.updates_up).all()
    assert (found.model_down <= bound.model_down).all()


@pytest.mark.slow
def test_mappings_agree(key):
    config = adapting("both", start=4, most=64, smoothing=0.9)
    cohort = cohort_of(key, counts=UNEVEN)
    found = []
    for mapping in (clients.scan, clients.vmap, clients.chunks(4)):
        made = fedlpq(
            TwoBlocks(), config, num_clients=N, input_shape=SHAPE, over_clients=mapping
        )
        state, step = jax.jit(made.init)(key), jax.jit(made.round)
        for number in range(3):
            own = jax.random.fold_in(key, number)
            state, metrics = step(state, cohort, own)
        found.append((state, metrics))
    for state, metrics in found[1:]:
        assert state.levels.level == found[0][0].levels.level
        assert_equal(metrics.links.updates_up.bits, found[0][1].links.updates_up.bits)
        assert_close(state.levels, found[0][0].levels, 1e-4)
        assert_close(state.variables, found[0][0].variables, 1e-3)


def test_without_it_the_state_has_nothing_of_it(key):
    made = fedlpq(TwoBlocks(), FIXED, num_clients=N, input_shape=SHAPE)
    assert jax.eval_shape(made.init, key).levels is None


def test_numbers_are_swept_in_one_program():
    kinds = [
        adapting("time"),
        adapting("time", start=3, most=9, smoothing=0.5),
        adapting("time", patience=2),
        adapting("both"),
    ]
    assert groups(kinds) == [[0, 1], [2], [3]]


FEEDBACK = CompressorConfig(kind="qsgd", bits=2, feedback="error")


@pytest.mark.parametrize(
    ("updates", "levels", "said"),
    [
        ({}, {}, "updates.bits=2 with coder='fixed' gives clients one level"),
        ({"bits": (8, 2)}, {}, "gives clients one level"),
        ({"bits": 3}, {}, None),
        ({"feedback": "none"}, {}, None),
        ({"rounding": "nearest"}, {}, None),
        # An Elias code has 2^b levels.
        ({"coder": "omega"}, {}, None),
        ({}, {"adapt": "time"}, "levels.start=1 gives clients one level"),
        ({}, {"adapt": "time", "start": 2}, None),
        ({"bits": 8}, {"adapt": "client"}, "may give clients one level"),
        ({"bits": 8}, {"adapt": "both", "start": 9}, "may give clients one level"),
    ],
)
def test_feedback_of_one_level_is_warned_of(updates, levels, said):
    """It is TernGrad, whose errors add up."""
    found = one_level(dataclasses.replace(FEEDBACK, **updates), LevelConfig(**levels))
    assert len(found) == (said is not None) and (said or "") in "".join(found)


def test_options_without_effect_are_known():
    def idle(config):
        return set(FedLPQRun(method=config).idle)

    of_time = {"levels.start", "levels.most", "levels.smoothing", "levels.patience"}
    assert idle(FIXED) >= of_time and "updates.bits" not in idle(FIXED)
    assert idle(adapting("client")) >= of_time
    assert not idle(adapting("time")) & of_time
    assert "updates.bits" in idle(adapting("both"))
    assert "updates.bits" not in idle(adapting("client"))
