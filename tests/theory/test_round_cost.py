"""Plans are what rounds count, and follow the physics and the bound."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.fedsl_bound import Choice, Constants, Setting
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.traffic import expected
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.models.split import recut
from fedjax_sl.theory.bound_constants import estimate, under_dropout
from fedjax_sl.theory.bound_search import (
    Candidate,
    best,
    on_pareto_front,
    plan,
)
from fedjax_sl.theory.round_cost import WINDOW, cost
from fedjax_sl.traffic import Record, Traffic, record_of
from tests.draws import examples
from tests.worlds import assert_equal, played, tiny_cohort, tiny_model


CONFIG = FedSLConfig(
    cohort_size=4,
    interval=2,
    learning_rate=0.05,
    prune_ratio=0.5,
    prune_end=0,
    dropout_rate=0.0,
)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["filter", "weight"])
def test_what_is_planned_is_what_is_counted(key, granularity):
    """The rounds that start and end a period, bit for bit and product for product."""
    config = dataclasses.replace(CONFIG, granularity=granularity)
    _, rounds = played(key, config)
    counted = record_of(jax.tree.map(lambda *x: np.stack(x), *rounds))
    kinds = expected(tiny_model(), config, batch_size=5)
    assert_equal(jax.tree.map(lambda x: x[[2, 1]], kinds), counted)


def test_what_is_dropped_is_expected_not_to_be_sent():
    model, half = tiny_model(), dataclasses.replace(CONFIG, dropout_rate=0.5)
    whole, rest = (expected(model, c, batch_size=5) for c in (CONFIG, half))
    for link in ("activations_up", "gradients_down"):
        before, after = getattr(whole.traffic, link), getattr(rest.traffic, link)
        np.testing.assert_array_equal(after[0], before[0] / 2)  # no pass that scores
    np.testing.assert_array_equal(rest.traffic.updates_up, whole.traffic.updates_up)


def test_another_cut_is_the_same_network(key):
    shallow, deep = tiny_model(cut=1), tiny_model(cut=3)
    params = shallow.init(key)
    there = recut(params, deep)
    assert_equal(recut(there, shallow), params)
    image = jax.random.normal(key, (2, *deep.input_shape))
    assert_equal(deep.predict(there, image), shallow.predict(params, image))


def test_dropout_makes_gradients_noisier(key):
    model, cohort = tiny_model(), tiny_cohort(key)
    two = (2, 1)
    cohort = cohort._replace(
        index=np.tile(cohort.index, (1, *two)), weight=np.tile(cohort.weight, (1, *two))
    )
    points = [model.init(jax.random.fold_in(key, n)) for n in range(2)]
    dense = estimate(model, points, cohort).constants
    assert under_dropout(dense, model, points, cohort, rate=0.0) is dense
    # One batch twice: without dropout its gradients do not vary at all.
    assert dense.variance.max() < 1e-6
    some, most = (
        under_dropout(dense, model, points, cohort, rate=rate).variance.sum()
        for rate in (0.2, 0.8)
    )
    assert 1e-3 < some < most


CONSTANTS = Constants(2.0, 2.3, np.ones(8), 0.1 * np.ones(8), 0.1 * np.ones(8))
CLIENTS = 4


def candidate(cut, ratio, bits, interval):
    """A choice whose counts are made up, but go as the choice goes."""
    kind = np.arange(4)[:, None] * np.ones((1, CLIENTS), np.int64)
    starts, ends = kind // 2, kind % 2
    every = np.ones_like(kind)
    activations = 10**5 // cut * every
    update = (10**5 * cut * bits * (1 - ratio) * ends).astype(np.int64)
    model = 32 * 10**5 * cut * starts
    none = 0 * every
    kinds = Record(
        client_id=np.tile(np.arange(CLIENTS), (4, 1)),
        traffic=Traffic(model, activations, none, activations, update, none, none),
        side=Traffic(*[none] * 7),
        client_macs=1e7 * cut * (1 - ratio) * every,
        server_macs=1e7 * (8 - cut) * every,
        tail_macs=0.0 * every,
    )
    setting = Setting(
        rounds=100,
        learning_rate=0.05,
        clients=CLIENTS,
        interval=interval,
        cut=cut,
        quantization=4.0**-bits if bits < 32 else 0.0,
        pruned=ratio,
        masked=ratio / 10,
        upload=4.0**-bits if bits < 32 else 0.0,
    )
    return Candidate(Choice(cut, ratio, bits, 0.0, interval), CONSTANTS, setting, kinds)


EVERY = [
    candidate(cut, ratio, bits, interval)
    for cut in (1, 4)
    for ratio in (0.0, 0.3)
    for bits in (4, 32)
    for interval in (1, 5)
]
RUN = FedSLRun(data=DataConfig(num_clients=CLIENTS), method=CONFIG)


def least(by="seconds", *, target=1.0, every=EVERY, **channel):
    """What the choice takes over such a channel."""
    run = dataclasses.replace(RUN, channel=Channel(**channel))
    able = best([plan(one, run, target) for one in every], by)
    return getattr(able[0].cost, by)


@pytest.mark.slow
@settings(max_examples=examples(20))
@given(
    band=st.floats(1e5, 1e8), factor=st.floats(1.01, 20), decibels=st.floats(0.1, 20)
)
def test_a_slower_uplink_never_makes_the_chosen_time_shorter(band, factor, decibels):
    usual = least(bandwidth_hz=band)
    assert least(bandwidth_hz=band / factor) >= usual
    weak = Channel.device_power_dbm - decibels
    assert least(bandwidth_hz=band, device_power_dbm=weak) >= usual
    slow = tuple(clock / factor for clock in Channel().clock_hz)
    assert least(bandwidth_hz=band, clock_hz=slow) >= usual


@settings(max_examples=examples(20))
@given(target=st.floats(0.3, 5.0), factor=st.floats(1, 10), seed=st.integers(0, 9))
def test_asking_less_or_choosing_among_more_takes_no_longer(target, factor, seed):
    usual = least(target=target, channel_seed=seed)
    assert least(target=target * factor, channel_seed=seed) <= usual * (1 + 1e-9)
    assert least(target=target, channel_seed=seed, every=EVERY[:4]) >= usual


def test_nothing_on_the_front_is_beaten():
    plans = [plan(one, RUN, 1.0) for one in EVERY]
    found = on_pareto_front(plans)
    assert found[0].cost.seconds == best(plans, "seconds")[0].cost.seconds
    assert found[-1].cost.joules == best(plans, "joules")[0].cost.joules
    for one in found:
        for other in plans:
            pairs = zip(other.cost, one.cost, strict=True)
            assert not all(a < b for a, b in pairs)


def test_what_the_bound_never_reaches_is_not_chosen():
    plans = [plan(one, RUN, 0.3) for one in EVERY]
    assert {one.choice.ratio for one in best(plans, "seconds")} == {0.0}
    lost = [one for one in plans if one.choice.ratio > 0]
    assert lost and on_pareto_front(lost) == []
    assert all(np.isinf([one.rounds, *one.cost]).all() for one in lost)


@pytest.mark.parametrize("target", [1.0, 10.0, 1000.0])
def test_a_plan_is_of_whole_periods(target):
    """However little is asked: at least one update is sent and paid for."""
    for one in EVERY:
        found = plan(one, RUN, target)
        if np.isfinite(found.rounds):
            assert found.rounds % one.choice.interval == 0
            mute = one._replace(
                kinds=one.kinds._replace(
                    traffic=one.kinds.traffic._replace(
                        updates_up=0 * one.kinds.traffic.updates_up
                    )
                )
            )
            assert plan(mute, RUN, target).cost.seconds < found.cost.seconds


def test_many_rounds_take_what_few_take_on_average():
    still = Channel(fading=False)
    one = EVERY[0].kinds
    few, many = (
        cost(still, one, interval=5, rounds=count, num_clients=CLIENTS)
        for count in (WINDOW, 50 * WINDOW)
    )
    np.testing.assert_allclose(many, 50 * np.array(few))
