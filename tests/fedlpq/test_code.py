"""The code of messages: it changes their bits, and nothing else."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.compression.coding import CODES
from fedjax_sl.fedlpq import fedlpq
from fedjax_sl.fedlpq.estimates.traffic import most
from fedjax_sl.traffic import traffic
from tests.fedlpq.test_fedlpq import (
    BATCH,
    EXACT,
    SHAPE,
    STEPS,
    N,
    TwoBlocks,
    cohort_of,
)
from tests.worlds import assert_equal


CODED = dataclasses.replace(EXACT, bits=(3, 9, 32))


def after_a_round(code, key):
    """The state after a round in this code, and the bits that clients send."""
    config = dataclasses.replace(CODED, code=code)
    made = fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)
    state = jax.jit(made.init)(key)
    state, metrics = jax.jit(made.round)(state, cohort_of(key), key)
    return config, state, traffic(metrics.links).updates_up


@pytest.mark.parametrize("code", [*CODES, "range"])
def test_no_round_takes_more_than_the_most(code, key):
    config, _, found = after_a_round(code, key)
    bound = most(
        TwoBlocks(), SHAPE, config, np.full(N, STEPS * BATCH)
    ).traffic.updates_up
    assert (found > 0).all() and (found <= bound).all()
    # At 32 bits nothing is coded, and the bound is what is sent.
    assert found[2] == bound[2]


@pytest.mark.slow
def test_models_do_not_depend_on_it(key):
    (_, one, ours), (_, other, theirs) = (
        after_a_round(code, key) for code in ("gamma", "range")
    )
    assert_equal(one, other)
    assert ours[2] == theirs[2] and (np.delete(ours - theirs, [2, 5]) != 0).all()
