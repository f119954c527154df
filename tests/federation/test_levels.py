"""Laws of levels that adapt: when they double, and how clients share them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.federation.levels import (
    after_round,
    first_levels,
    largest,
    of_cohort,
    same_variance,
)
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedsl import FedSLConfig
from tests.draws import examples
from tests.worlds import assert_equal


TIME = LevelConfig(adapt="time", start=2, most=50, patience=3, smoothing=0.5)
CLIENT = LevelConfig(adapt="client")
QSGD = CompressorConfig(kind="qsgd", bits=6)

_after_round = jax.jit(after_round)


def course(losses, config=TIME):
    """The level after each round of a client with these losses."""
    state, levels = first_levels(config), []
    for loss in losses:
        state = _after_round(config, state, jnp.full(1, loss), jnp.ones(1))
        levels.append(int(state.level))
    return levels


def expected(losses, config=TIME):
    """The same from the formulas alone, with the whole history at hand."""
    level, levels, smoothed, changed = config.start, [], [], 0
    for number, loss in enumerate(losses):
        old = smoothed[-1] if smoothed else loss
        smoothed.append(config.smoothing * old + (1 - config.smoothing) * loss)
        if number >= config.patience and number - changed >= config.patience:
            if smoothed[number] >= smoothed[number - config.patience]:
                doubled = min(2 * level, config.most)
                changed = number if doubled > level else changed
                level = doubled
        levels.append(level)
    return levels


def test_the_level_does_not_change_while_the_loss_falls():
    assert course(np.linspace(3, 1, 20)) == [2] * 20


def test_the_level_doubles_on_a_plateau_no_sooner_than_after_patience():
    assert course([1.0] * 16) == [2] * 3 + [4] * 3 + [8] * 3 + [16] * 3 + [32] * 3 + [
        50
    ]
    assert course([1.0] * 30)[-1] == 50


def test_a_plateau_after_a_fall_doubles_it():
    levels = course([*np.linspace(3, 1, 8), *[1.0] * 30])
    assert levels[:8] == [2] * 8 and levels[-1] > 2


# In units of 1/64 a smoothed loss is exact in float32, and so are ties.
@settings(max_examples=examples(50))
@given(st.lists(st.integers(0, 8), max_size=14), st.integers(1, 4))
def test_it_is_the_rule_as_written(losses, patience):
    config = dataclasses.replace(TIME, patience=patience)
    assert course(losses, config) == expected(losses, config)


def test_the_loss_is_that_of_the_clients_who_are_heard():
    """Whatever others hold; without any the state stays as it is."""
    state = first_levels(TIME)
    loss, weights = jnp.array([1.0, jnp.nan, 3.0, 7.0]), jnp.array([0.1, 0.0, 0.3, 0.0])
    after = after_round(TIME, state, loss, weights)
    assert after.losses[-1] == pytest.approx(2.5)
    broken = after_round(TIME, state, loss.at[3].set(jnp.inf), weights.at[3].set(0.6))
    assert_equal(after, broken)
    assert_equal(after, after_round(TIME, after, loss, jnp.zeros(4)))


def test_numbers_are_traced():
    """One program, whatever the bounds and the smoothing."""
    runs = []

    @jax.jit
    def level(config):
        runs.append(config)
        state = first_levels(config)
        for loss in [1.0] * 4:
            state = after_round(config, state, jnp.full(1, loss), jnp.ones(1))
        return state.level

    changes = [{}, {"start": 5}, {"most": 3}, {"smoothing": 0.1}]
    found = [int(level(dataclasses.replace(TIME, **change))) for change in changes]
    assert found == [4, 10, 3, 4] and len(runs) == 1


weights_of = st.lists(st.floats(1 / 64, 1, width=32), min_size=1, max_size=12)


@settings(max_examples=examples(100))
@given(weights_of, st.integers(1, 1000))
def test_the_variance_is_that_of_one_level_and_the_sum_no_larger(given_weights, level):
    weights = np.array(given_weights) / np.sum(given_weights)
    levels = np.asarray(same_variance(level, jnp.asarray(weights, jnp.float32)))
    usual = ((weights / level) ** 2).sum()
    np.testing.assert_allclose(((weights / levels) ** 2).sum(), usual, rtol=1e-4)
    assert levels.sum() <= len(weights) * level * (1 + 1e-5)
    # More data, more levels.
    order = np.argsort(weights)
    assert (np.diff(levels[order]) >= -1e-4 * level).all()


@settings(max_examples=examples(30))
@given(weights_of, st.integers(2, 1000), st.data())
def test_no_other_levels_of_that_variance_have_a_smaller_sum(given, level, data):
    weights = np.array(given) / np.sum(given)
    levels = np.asarray(same_variance(level, jnp.asarray(weights, jnp.float32)))
    factors = st.lists(st.floats(0.5, 2), min_size=len(weights), max_size=len(weights))
    other = levels * data.draw(factors)
    usual = ((weights / levels) ** 2).sum()
    other *= np.sqrt(((weights / other) ** 2).sum() / usual)
    assert other.sum() >= levels.sum() * (1 - 1e-5)


@settings(max_examples=examples(50))
@given(weights_of)
def test_no_client_has_more_levels_than_the_most(given):
    weights = jnp.asarray(given) / sum(given)
    levels = of_cohort(CLIENT, QSGD, None, weights)
    assert levels.dtype == jnp.int32 and (levels >= 1).all()
    assert levels.max() <= largest(CLIENT, QSGD, len(given))


def test_nor_where_classes_of_devices_have_other_bits():
    """A coarse client's share of the levels is of the variance of fine ones."""
    bits = jnp.array([2] + [8] * 19)
    how = dataclasses.replace(QSGD, bits=bits)
    levels = of_cohort(CLIENT, how, None, jnp.full(20, 1 / 20))
    bound = largest(CLIENT, how, 20)
    alone = largest(CLIENT, dataclasses.replace(QSGD, bits=2), 20)
    assert (levels <= bound).all() and levels[0] > alone


def test_the_bound_is_of_the_right_order():
    """One client of many owns most: its levels are near the bound, not far below."""
    shares = np.array([1.0] + [0.06] * 99)
    weights = jnp.asarray(shares / shares.sum(), jnp.float32)
    bound = largest(CLIENT, QSGD, 100)
    assert 0.6 * bound < of_cohort(CLIENT, QSGD, None, weights).max() <= bound


def test_equal_clients_have_the_levels_of_their_bits():
    for bits in (2, 8, 16):
        how = dataclasses.replace(QSGD, bits=bits)
        levels = of_cohort(CLIENT, how, None, jnp.full(7, 1 / 7))
        assert levels.tolist() == [2 ** (bits - 1) - 1] * 7


def test_an_absent_client_has_no_part():
    weights = jnp.array([0.25, 0.75, 0.0])
    with_it = of_cohort(CLIENT, QSGD, None, weights)
    assert_equal(with_it[:2], of_cohort(CLIENT, QSGD, None, weights[:2]))
    assert with_it[2] == 1


REFUSED = [
    ({"updates": CompressorConfig(kind="eden", bits=4)}, "updates.kind='eden': expec"),
    ({"updates": CompressorConfig()}, "updates.kind='float32': expected 'qsgd'"),
    ({"levels": CLIENT}, "client_weight='equal': expected 'examples'"),
    (
        {"levels": CLIENT, "client_weight": "examples", "trim": 0.1},
        "trim=0.1: expected none with levels.adapt='client'",
    ),
    (
        {"noise_multiplier": 1.0, "clip_norm": 1.0},
        "levels.adapt='time' with noise_multiplier: expected 'none' or 'client'",
    ),
    (
        {
            "levels": LevelConfig(adapt="time", most=3000),
            "updates": dataclasses.replace(QSGD, coder="rice"),
        },
        "levels.most=3000: expected at most 2047 with updates.coder='rice'",
    ),
]


@pytest.mark.parametrize("kind", [FedSLConfig, FedLPQConfig])
@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_has_no_use_is_refused(kind, change, said):
    with pytest.raises(ValueError, match=said):
        kind(**{"updates": QSGD, "levels": TIME, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": 0}, "start=0: expected at least 1"),
        ({"start": 9, "most": 8}, "most=8: expected at least start=9"),
        ({"patience": 0}, "patience=0: expected at least 1"),
        ({"smoothing": 1.0}, r"smoothing=1.0: expected a number in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        LevelConfig(**change)
