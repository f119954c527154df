"""Who waits for whom in a round: its length, who is late, and who is admitted."""

import dataclasses
import math

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.analysis.phases import done_by, needs
from fedjax_sl.traffic import Record, Traffic
from tests.draws import examples


STILL = Channel(distance_m=(100.0, 100.0), fading=False)


def drawn_record(seed, *, rounds=6, clients=7, crossing=True):
    """Counts of every size, of clients some of which are absent or send no update."""
    draw = np.random.default_rng(seed)
    shape = (rounds, clients)
    here = draw.random(shape) < 0.8
    sending = here & (draw.random(shape) < 0.7)

    def bits(who):
        return np.where(who, 10 ** draw.uniform(3, 8, shape), 0).astype(np.int64)

    cut = [bits(here & crossing) for _ in range(3)]
    none = np.zeros(shape, np.int64)
    return Record(
        np.tile(np.arange(clients), (rounds, 1)),
        Traffic(bits(here), *cut, bits(sending), none, none),
        Traffic(*[none] * 7),
        np.where(here, 10 ** draw.uniform(6, 11, shape), 0.0),
        np.where(here & crossing, 1e8, 0.0),
        0.0 * none,
    )


KINDS = st.sampled_from(["nothing", "exchanges", "visits"])


@settings(max_examples=examples(60))
@given(seed=st.integers(0, 10**6), in_turn=KINDS, crossing=st.booleans())
def test_a_round_is_cut_if_and_only_if_somebody_is_late(seed, in_turn, crossing):
    """To the last digit, whatever the deadline; and nobody is before the free run."""
    busy = drawn_record(seed, crossing=crossing)
    free = round_costs(Channel(), busy, sequential=in_turn)
    for t, seconds in enumerate(free.seconds):
        if not seconds:
            continue
        for limit in (seconds, seconds * (1 - 1e-12), 0.3 * seconds):
            cut = round_costs(Channel(deadline_s=limit), busy, sequential=in_turn)
            assert cut.late[t].any() == (seconds > limit)
            assert cut.seconds[t] == min(seconds, limit)


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 10**6),
    in_turn=KINDS,
    crossing=st.booleans(),
    cohort=st.integers(1, 5),
    period=st.sampled_from([1, 2, 3]),
    at=st.floats(0.05, 0.95),
)
def test_no_cohort_of_the_admitted_is_late(seed, in_turn, crossing, cohort, period, at):
    """Their round is not cut, they stay for a period, and more time admits more."""
    most = drawn_record(seed, crossing=crossing)
    found = needs(Channel(), most, cohort, sequential=in_turn)
    limit = float(np.quantile(found.alone(cohort), at))
    able = done_by(limit, found, cohort, period=period)
    assert (able == able[::period].repeat(period, axis=0)).all()
    assert able[done_by(0.7 * limit, found, cohort, period=period)].all()
    # Whoever is first needs nobody else to be in time.
    alone = found.alone(cohort).reshape(-1, period, able.shape[1]).max(axis=1)
    assert (able[::period].any(axis=1) == (alone.min(axis=1) <= limit)).all()
    draw = np.random.default_rng(seed)
    for t in range(len(able)):
        these = np.flatnonzero(able[t])
        some = draw.permutation(these)[:cohort]
        if len(some):
            one = jax.tree.map(lambda x, t=t, some=some: x[t : t + 1, some], most)
            took = round_costs(Channel(), one, first_round=t, sequential=in_turn)
            assert took.seconds[0] <= limit


def test_without_a_cut_each_client_goes_its_own_way():
    """A slow device with a short update does not wait before it sends."""
    slow = dataclasses.replace(STILL, clock_hz=(1e6, 1e9), server_macs_per_second=1e30)
    none, ids = np.zeros((1, 2), np.int64), np.array([[0, 1]])
    own_way = Record(
        ids,
        Traffic(none, none, none, none, np.array([[1000, 150_000_000]]), none, none),
        Traffic(*[none] * 7),
        np.array([[1e9, 1e6]]),
        np.zeros((1, 2)),
        np.zeros((1, 2)),
    )
    took = round_costs(slow, own_way)
    sending = 150e6 / (5e6 * math.log2(1 + 2 * 4466.836))
    np.testing.assert_allclose(took.seconds, max(3.0, sending), rtol=1e-4)
    np.testing.assert_allclose(took.updates, took.seconds - 3, atol=1e-4)
    # Over a cut the fast device waits for the slow one's activations.
    meets = own_way._replace(traffic=own_way.traffic._replace(labels_up=none + 8))
    np.testing.assert_allclose(round_costs(slow, meets).seconds, 3 + sending, rtol=1e-4)


@settings(max_examples=examples(60))
@given(seed=st.integers(0, 10**6), in_turn=KINDS, crossing=st.booleans())
def test_phases_sum_to_the_round_also_where_it_is_cut(seed, in_turn, crossing):
    """A phase that would begin after the deadline takes no time."""
    busy = drawn_record(seed, crossing=crossing)
    free = round_costs(Channel(), busy, sequential=in_turn)
    limit = float(np.median(free.seconds))
    cut = round_costs(Channel(deadline_s=limit), busy, sequential=in_turn)
    order = ("models", "up", "server", "down", "updates")
    for found in (free, cut):
        phases = np.array([getattr(found, name) for name in order])
        np.testing.assert_allclose(phases.sum(axis=0), found.seconds, rtol=1e-12)
    whole, left = (np.array([getattr(c, n) for n in order]) for c in (free, cut))
    ends = np.minimum(np.cumsum(whole, axis=0), limit)
    np.testing.assert_allclose(np.cumsum(left, axis=0), ends, rtol=1e-12)
