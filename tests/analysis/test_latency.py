"""Time and energy follow the physics, and the worked example."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.analysis.channel import Channel, gains, path_gain, rate, watts
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.analysis.phases import needs
from fedjax_sl.traffic import Record, Traffic, without_side
from tests.draws import examples


STILL = Channel(distance_m=(100.0, 100.0), fading=False)


def record(
    rounds=3,
    clients=10,
    activations=0,
    labels=0,
    gradients=0,
    updates=0,
    model=0,
    side=0,
    macs=1.0,
):
    """The same counts for everyone; side information only among updates."""
    shape = (rounds, clients)

    def full(count):
        return np.full(shape, count, np.int64)

    return Record(
        client_id=np.tile(np.arange(clients), (rounds, 1)),
        traffic=Traffic(
            *map(full, (model, activations, labels, gradients, updates + side, 0, 0))
        ),
        side=Traffic(*map(full, (0, 0, 0, 0, side, 0, 0))),
        client_macs=np.full(shape, float(macs)),
        server_macs=np.full(shape, 2.0 * macs),
        tail_macs=np.zeros(shape),
    )


def test_the_worked_example():
    """Ten clients at 100 m share 10 MHz; B = 64, L_c = 4, half of 8192 dropped."""
    assert path_gain(np.array(100.0)) == pytest.approx(10**-9.05)
    noise, power = watts(-174), watts(23)
    assert power == pytest.approx(0.19953, rel=1e-4)
    assert power * path_gain(np.array(100.0)) / (1e6 * noise) == pytest.approx(
        44668.36, rel=1e-6
    )
    speed = rate(1e6, power, path_gain(np.array(100.0)), noise)
    assert speed == pytest.approx(15.446998e6, rel=1e-7)
    activations, labels = 64 * 4096 * 32, 64 * 4
    assert activations + labels == 8_388_864
    took = round_costs(STILL, record(activations=activations, labels=labels, macs=1e-9))
    np.testing.assert_allclose(took.up, 0.543074, rtol=1e-6)
    np.testing.assert_allclose(took.seconds, took.up, rtol=1e-6)


def test_computing_takes_what_clock_and_cycles_say():
    channel = dataclasses.replace(
        STILL, clock_hz=(1e9, 2e9), macs_per_cycle=10.0, server_macs_per_second=1e12
    )
    took = round_costs(channel, record(macs=1e10))
    np.testing.assert_allclose(took.up, 1.0)  # the slower class
    np.testing.assert_allclose(took.down, 2.0)
    np.testing.assert_allclose(took.server, 3 * 10 * 2e10 / 1e12)
    np.testing.assert_allclose(took.seconds, took.up + took.down + took.server)
    joules = 3 * 1e9 * 1e-27 * np.array([1e18, 4e18])
    np.testing.assert_allclose(took.joules[0, :2], joules)


def test_sending_takes_power_and_time():
    took = round_costs(STILL, record(updates=15_446_998, macs=1e-9))
    np.testing.assert_allclose(took.updates, 1.0, rtol=1e-6)
    np.testing.assert_allclose(took.joules, watts(23), rtol=1e-6)


# Three clients at 100 m: P h / N_0 is 44,668.36 MHz up, and 200 times that down.
UP = 1e7 * math.log2(1 + 4466.836)
DOWN = 1e7 * math.log2(1 + 10**2.3 * 4466.836)
THIRD_UP = 1e7 / 3 * math.log2(1 + 3 * 4466.836)
THIRD_DOWN = 1e7 / 3 * math.log2(1 + 3 * 10**2.3 * 4466.836)
SENT = {
    "activations": 9_000_000,
    "labels": 1_000_000,
    "gradients": 2_000_000,
    "updates": 3_000_000,
    "model": 4_000_000,
}
FORWARD = np.array([0.0100, 0.0100 / 1.2, 0.0100 / 1.4])  # of 1e10 products
SERVER = 3 * 3 * 2e10 / 2e13


def test_whoever_sends_alone_has_all_of_the_band():
    """By hand, K = 3: 10 Mbit up take 82 ms alone and 219 ms over a third of it."""
    np.testing.assert_allclose([10 / UP, 10 / THIRD_UP], [8.25e-8, 2.188e-7], rtol=1e-3)
    busy = record(clients=3, rounds=1, macs=1e10, **SENT)

    at_once = round_costs(STILL, busy)
    np.testing.assert_allclose(at_once.up, 0.01 + 1e7 / THIRD_UP, rtol=1e-6)
    np.testing.assert_allclose(at_once.down, 0.02 + 2e6 / THIRD_DOWN, rtol=1e-6)

    # A relay: three visits, each with compute, exchange and the model handed on.
    relay = round_costs(STILL, busy, sequential="visits")
    np.testing.assert_allclose(relay.up, FORWARD.sum() + 3e7 / UP, rtol=1e-6)
    np.testing.assert_allclose(relay.down, 2 * FORWARD.sum() + 6e6 / DOWN, rtol=1e-6)
    np.testing.assert_allclose(relay.updates, 9e6 / UP, rtol=1e-6)
    np.testing.assert_allclose(relay.models, 12e6 / DOWN, rtol=1e-6)
    each = 3 * FORWARD + 13e6 / UP + 6e6 / DOWN
    np.testing.assert_allclose(relay.seconds, each.sum() + SERVER, rtol=1e-6)

    # SplitFed v2: clients compute, load and upload at the same time.
    turns = round_costs(STILL, busy, sequential="exchanges")
    np.testing.assert_allclose(turns.up, 0.01 + 3e7 / UP, rtol=1e-6)
    np.testing.assert_allclose(turns.down, 0.02 + 6e6 / DOWN, rtol=1e-6)
    np.testing.assert_allclose(turns.updates, 3e6 / THIRD_UP, rtol=1e-6)
    np.testing.assert_allclose(turns.models, 4e6 / DOWN, rtol=1e-6)
    for found in (relay, turns):
        np.testing.assert_allclose(found.server, SERVER)

    power, computing = (
        watts(23),
        3 * 1e7 * 1e-27 * np.array([1.0, 1.2, 1.4]) ** 2 * 1e18,
    )
    np.testing.assert_allclose(relay.joules[0], computing + power * 13e6 / UP)
    sending = 1e7 / UP + 3e6 / THIRD_UP
    np.testing.assert_allclose(turns.joules[0], computing + power * sending)


def test_a_power_that_is_split_gains_nothing_by_sending_at_once():
    """To ten, each over a tenth of band and power, it takes as long as to one by one.

    Alone in a tenth of the band, with all of the power, each receives sooner.
    """
    gradients = record(rounds=1, gradients=10**7, macs=1e-9)
    split = dataclasses.replace(STILL, server_power="split")
    for share in ("equal", "rate"):
        here = dataclasses.replace(split, share=share)
        at_once = round_costs(here, gradients).down
        one_by_one = round_costs(here, gradients, sequential="exchanges").down
        np.testing.assert_allclose(at_once, one_by_one, rtol=1e-6)
        np.testing.assert_allclose(at_once, 10 * 10**7 / DOWN, rtol=1e-6)
    assert (round_costs(STILL, gradients).down < 0.9 * at_once).all()
    # Up, each device has a power of its own.
    updates = record(updates=10**6)
    for found in (round_costs, lambda *x: needs(*x, 10)):
        for mine, its in zip(found(STILL, updates), found(split, updates), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_needs_know_of_a_split_power():
    """Nobody who is admitted is late."""
    split = Channel(server_power="split")
    busy = record(clients=5, gradients=10**8)
    alone = needs(split, busy, 5).alone(5)
    free = round_costs(split, busy)
    assert (free.seconds <= alone.max(axis=1)).all()


@pytest.mark.parametrize("in_turn", ["exchanges", "visits"])
def test_one_client_is_always_alone(in_turn):
    only = record(clients=1, macs=1e9, **SENT)
    before, after = (
        round_costs(STILL, only),
        round_costs(STILL, only, sequential=in_turn),
    )
    for name, found in after._asdict().items():
        np.testing.assert_allclose(found, getattr(before, name), err_msg=name)


@pytest.mark.parametrize("in_turn", ["nothing", "exchanges", "visits"])
@pytest.mark.parametrize("share", ["equal", "rate"])
def test_who_is_done_says_so_whatever_is_in_turn(in_turn, share):
    """Nobody is late at a deadline that all keep; all are where a relay is cut short.

    The bound known before holds: the slowest in each step, and five times the longest
    turn.
    """
    far, busy = Channel(share=share), record(clients=5, macs=1e9, **SENT)
    free = round_costs(far, busy, sequential=in_turn)
    kept = dataclasses.replace(far, deadline_s=float(free.seconds.max()) * 1.001)
    assert not round_costs(kept, busy, sequential=in_turn).late.any()
    short = dataclasses.replace(far, deadline_s=float(free.seconds.min()) * 0.999)
    cut = round_costs(short, busy, sequential=in_turn)
    assert (cut.seconds <= short.deadline_s).all()
    if in_turn == "visits":
        assert cut.late.all()
    if share == "equal":
        found = needs(far, busy, 5, sequential=in_turn)
        steps = found.steps.max(axis=2).sum(axis=0)
        enough = found.server[:, 0] + steps + 5 * found.turn.max(axis=1)
        for t, seconds in enumerate(enough):
            limit = dataclasses.replace(far, deadline_s=float(seconds))
            assert not round_costs(limit, busy, sequential=in_turn).late[t].any()


def test_an_absent_client_takes_no_band_time_or_energy():
    some = record(activations=10**6, macs=1e9)
    absent = np.zeros(10, bool)
    absent[3:] = True
    less = some._replace(
        traffic=Traffic(*(np.where(absent, 0, link) for link in some.traffic)),
        client_macs=np.where(absent, 0, some.client_macs),
        server_macs=np.where(absent, 0, some.server_macs),
    )
    took = round_costs(STILL, less)
    assert (took.joules[:, 3:] == 0).all()
    at_once = dataclasses.replace(STILL, deadline_s=1e-9)
    assert (round_costs(at_once, less).late == ~absent).all()
    assert took.up[0] < round_costs(STILL, some).up[0]


def test_whoever_sends_takes_part_though_nothing_is_left_to_compute():
    """A client whose half is pruned as a whole has its share of the band, as others."""
    some = record(**BUSY, macs=1e9)
    pruned = some.client_macs.copy()
    pruned[:, 3] = 0
    took = round_costs(STILL, some._replace(client_macs=pruned))
    assert np.isfinite(took.seconds).all()
    np.testing.assert_allclose(took.updates, round_costs(STILL, some).updates)
    at_once = dataclasses.replace(STILL, deadline_s=1e-9)
    assert round_costs(at_once, some._replace(client_macs=pruned)).late.all()


def test_a_deadline_ends_rounds_and_names_the_late():
    far = Channel(distance_m=(50.0, 500.0))
    busy = record(updates=10**7, macs=1e9)
    free = round_costs(far, busy)
    limit = float(np.median(free.seconds)) / 2
    took = round_costs(dataclasses.replace(far, deadline_s=limit), busy)
    assert (took.seconds <= limit).all()
    assert 0 < took.late.mean() < 1
    assert (free.seconds > limit)[took.late.any(axis=1)].all()
    assert not free.late.any()


def test_fading_belongs_to_round_and_client():
    channel = Channel()
    ids = np.array([[0, 1, 2], [2, 0, 1]])
    found = gains(channel, ids, first_round=4)
    np.testing.assert_array_equal(found[1], gains(channel, ids[1:], first_round=5)[0])
    assert len(np.unique(found)) == 6
    still = gains(dataclasses.replace(channel, fading=False), ids)
    assert still[0, 0] == still[1, 1]


def test_gains_of_ones_own_take_the_place_of_the_channels():
    channel, busy = Channel(), record(**BUSY)
    own = gains(channel, busy.client_id)
    usual = round_costs(channel, busy)
    found = round_costs(Channel(channel_seed=7), busy, gain=own)
    for one, other in zip(usual, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (round_costs(channel, busy, gain=own / 100).seconds > usual.seconds).all()
    for wrong in (own[:, :-1], 0 * own):
        with pytest.raises(ValueError, match="gain of shape"):
            round_costs(channel, busy, gain=wrong)


def test_fades_count_as_no_deeper_than_asked():
    """Deep ones, and no others; 0 dB leaves those above the mean."""
    ids = np.tile(np.arange(50), (40, 1))
    free, still = (gains(Channel(fading=fading), ids) for fading in (True, False))
    for depth in (0.0, 3.0, 20.0):
        found = gains(Channel(deepest_fade_db=depth), ids) / still
        fades, least = free / still, 10 ** (-depth / 10)
        assert (fades < least).any()
        np.testing.assert_allclose(found, np.maximum(fades, least))
    with pytest.raises(ValueError, match="deepest_fade_db=-1.0: expected at least 0"):
        Channel(deepest_fade_db=-1.0)


def test_side_information_need_not_be_charged():
    """What is left is a record without any, and takes its time and energy."""
    free = without_side(record(**BUSY, side=10**6))
    for found, expected in zip(free.traffic, record(**BUSY).traffic, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not any(link.any() for link in free.side)
    charged = round_costs(STILL, record(**BUSY, side=10**6))
    assert (round_costs(STILL, free).seconds < charged.seconds).all()
    assert (round_costs(STILL, free).joules < charged.joules).all()


BUSY = {
    "activations": 10**6,
    "labels": 10**4,
    "gradients": 10**5,
    "updates": 10**6,
    "model": 10**6,
}


@settings(max_examples=examples(60))
@given(
    share=st.sampled_from(["equal", "rate"]),
    split=st.sampled_from(["each", "split"]),
    seed=st.integers(0, 100),
    band=st.floats(1e5, 1e9),
    factor=st.floats(1.01, 10),
)
def test_more_of_what_helps_takes_no_longer(share, split, seed, band, factor):
    cell = {"share": share, "server_power": split, "channel_seed": seed}
    channel = Channel(**cell, bandwidth_hz=band)
    busy = record(**BUSY, macs=1e8)
    before = round_costs(channel, busy)
    better = {
        "bandwidth_hz": band * factor,
        "device_power_dbm": channel.device_power_dbm + factor,
        "server_power_dbm": channel.server_power_dbm + factor,
        "macs_per_cycle": channel.macs_per_cycle * factor,
        "server_macs_per_second": channel.server_macs_per_second * factor,
    }
    for name, value in better.items():
        if share == "rate" and name in ("bandwidth_hz", "device_power_dbm"):
            continue  # shares move, and one client may lose by it
        after = round_costs(dataclasses.replace(channel, **{name: value}), busy)
        assert (after.seconds <= before.seconds * (1 + 1e-12)).all(), name


@settings(max_examples=examples(60))
@given(
    link=st.sampled_from(sorted(BUSY)), seed=st.integers(0, 100), part=st.floats(0, 1)
)
def test_fewer_bits_take_less_time_and_energy(link, seed, part):
    channel = Channel(channel_seed=seed)
    before = round_costs(channel, record(**BUSY, macs=1e8))
    fewer = BUSY | {link: int(part * BUSY[link] * 0.99)}
    after = round_costs(channel, record(**fewer, macs=1e8))
    assert (after.seconds < before.seconds).all()
    assert (after.joules <= before.joules).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth_hz": 0.0},
        {"bandwidth_hz": float("nan")},
        {"distance_m": (0.0, 1.0)},
        {"distance_m": (2.0, 1.0)},
        {"clock_hz": ()},
        {"clock_hz": (1e9, -1.0)},
        {"capacitance": -1.0},
        {"deadline_s": 0.0},
        {"device_power_dbm": float("inf")},
        {"channel_seed": -1},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Channel(**wrong)
