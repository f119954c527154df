"""Levels that adapt in FedSL: what they change, what they cost, and who knows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation import clients
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.federation.levels import LEVEL_BITS
from fedjax_sl.fedsl.estimates.traffic import at_rounds, expected, most
from fedjax_sl.traffic import traffic
from tests.fedsl.test_updates import PLAIN, algorithm
from tests.worlds import assert_close, assert_equal, tiny_cohort, tiny_model


QSGD = CompressorConfig(kind="qsgd", bits=6)
# A power of two, by which dividing is exact, whether it is traced or not.
OMEGA = CompressorConfig(kind="qsgd", bits=5, norm="l2", coder="omega")
FIXED = dataclasses.replace(PLAIN, updates=QSGD, client_weight="examples")
UNEVEN = jnp.array([400, 100, 5, 1])


def adapting(adapt, updates=QSGD, **levels):
    config = LevelConfig(adapt=adapt, **{"patience": 1, "smoothing": 0.0, **levels})
    return dataclasses.replace(FIXED, updates=updates, levels=config)


def played(config, key, rounds=4, sizes=None, **options):
    """The states and the metrics of some rounds, I = 2."""
    made = algorithm(config, **options)
    step, state = jax.jit(made.round), jax.jit(made.init)(key)
    cohort = tiny_cohort(key)
    if sizes is not None:
        cohort = cohort._replace(num_examples=sizes)
    states, found = [state], []
    for number in range(rounds):
        state, metrics = step(state, cohort, jax.random.fold_in(key, number))
        states.append(state)
        found.append(metrics)
    return states, found


def test_levels_that_stay_are_fixed_bits(key):
    """Models bit for bit; the level goes down where a period ends."""
    config = adapting("time", OMEGA, start=32, most=32)
    usual, ours = played(dataclasses.replace(FIXED, updates=OMEGA), key)
    found, theirs = played(config, key)
    assert_equal(usual[-1], found[-1]._replace(levels=None))
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        assert_equal(mine.links.updates_up, its.links.updates_up)
        told = its.links.gradients_down.side - mine.links.gradients_down.side
        assert told.tolist() == [LEVEL_BITS * (number % 2)] * 4


@pytest.mark.slow
def test_clients_of_one_size_have_fixed_bits(key):
    usual, ours = played(dataclasses.replace(FIXED, updates=OMEGA), key, rounds=2)
    found, theirs = played(adapting("client", OMEGA), key, rounds=2)
    assert_equal(usual[-1], found[-1])
    assert_equal(ours[-1].links.updates_up, theirs[-1].links.updates_up)


@pytest.mark.slow
def test_a_client_with_more_data_sends_more_bits(key):
    _, metrics = played(adapting("client"), key, rounds=2, sizes=UNEVEN)
    bits = metrics[-1].links.updates_up.bits.tolist()
    assert bits == sorted(bits, reverse=True) and bits[0] > bits[1] > bits[3]


@pytest.mark.slow
def test_it_is_the_loss_of_every_round(key):
    config = adapting("time", patience=5, smoothing=0.25)
    states, metrics = played(config, key, sizes=UNEVEN)
    shares, smoothed = np.asarray(UNEVEN) / UNEVEN.sum(), None
    for state, each in zip(states[1:], metrics, strict=True):
        loss = float(shares @ np.asarray(each.loss))
        smoothed = loss if smoothed is None else 0.25 * smoothed + 0.75 * loss
        assert state.levels.losses[-1] == pytest.approx(smoothed, rel=1e-5)


@pytest.mark.slow
def test_this_round_s_levels_follow_from_the_rounds_before(key):
    """A loss that stays is answered by the next message, not by its own."""
    still = dataclasses.replace(adapting("time", start=1), learning_rate=0.0)
    states, metrics = played(still, key, rounds=6)
    assert [int(state.levels.level) for state in states] == [1, 1, 2, 4, 8, 16, 32]
    for number, width in ((1, 2), (3, 4), (5, 6)):
        assert set(metrics[number].links.updates_up.bits.tolist()) == {width}


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["time", "client"])
def test_no_round_takes_more_than_the_most(adapt, key):
    config = adapting(adapt, start=40, most=50)
    _, metrics = played(config, key, rounds=2, sizes=UNEVEN)
    bound = most(tiny_model(), config, np.full(6, 5), batch_size=5)
    plan = expected(tiny_model(), config, 5)
    for number, each in enumerate(metrics):
        found = traffic(each.links)
        top = at_rounds(bound, np.array([number]), 2).traffic
        usual = at_rounds(plan, np.array([number]), 2).traffic
        for name in ("updates_up", "gradients_down"):
            sent, limit = getattr(found, name), getattr(top, name)[0][:4]
            assert (sent <= limit).all()
            if adapt == "time":
                np.testing.assert_array_equal(sent, getattr(usual, name)[0])


@pytest.mark.slow
def test_mappings_agree(key):
    config = adapting("both", start=4, most=64, smoothing=0.9)
    ends = [
        played(config, key, sizes=UNEVEN, over_clients=mapping)
        for mapping in (clients.scan, clients.vmap, clients.chunks(3))
    ]
    (first, metrics), *others = ends
    for states, found in others:
        assert states[-1].levels.level == first[-1].levels.level
        bits = [each.links.updates_up.bits for each in (metrics[-1], found[-1])]
        assert_equal(*bits)
        assert_close(states[-1].levels, first[-1].levels, 1e-4)


def test_without_it_the_state_has_nothing_of_it(key):
    assert jax.jit(algorithm(FIXED).init)(key).levels is None


def test_a_relay_has_no_updates_to_quantise():
    with pytest.raises(ValueError, match="updates.kind='qsgd': expected 'float32'"):
        dataclasses.replace(adapting("time"), client_update="relay")
