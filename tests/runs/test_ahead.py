"""Programs that are compiled before they are called, and once."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.runs.ahead import Ahead
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.points import programs_of_points
from fedjax_sl.runs.programs import programs_of
from tests.runs.test_weights import FEDAVG, RUN


def test_one_that_was_begun_compiles_no_more_where_it_is_called(compiled):
    program = jax.jit(lambda x, n: (x @ x).sum() + n)
    shape, x = jax.ShapeDtypeStruct((7, 7), np.float32), jnp.eye(7)
    ahead, after = Ahead(program), Ahead(jax.jit(lambda x: (2 * x).sum()))
    compiled.clear()
    ahead.begin((shape, np.int32(0)), then=(after, (shape,)))
    found = ahead(x, np.int32(3))
    # Both: what is still compiled would be timed with the calls.
    assert len(compiled) == 2 and float(found) == 10
    # Begun again, as for further runs of a sweep, it does nothing.
    ahead.begin((shape, np.int32(0)))
    assert float(ahead(x, np.int32(0))) == 7 and float(after(x)) == 14
    assert len(compiled) == 2


class Slow:
    """A program that takes its time to compile."""

    done = False

    def lower(self):
        return self

    def compile(self):
        time.sleep(0.3)
        self.done = True


def test_a_call_waits_for_what_was_begun_after_it():
    """Calls are timed: what is still compiled would slow them down."""
    ahead, slow = Ahead(jax.jit(lambda x: 2 * x)), Slow()
    ahead.begin((1.0,), then=(Ahead(slow), ()))
    assert float(ahead(3.0)) == 6 and slow.done


def test_one_that_was_not_begun_is_compiled_where_it_is_called():
    assert Ahead(jax.jit(lambda x: 2 * x))(3) == 6


def test_what_is_wrong_is_raised_where_it_is_called():
    def wrong(x):
        raise ValueError("no such thing")

    ahead = Ahead(jax.jit(wrong))
    ahead.begin((1.0,))
    with pytest.raises(ValueError, match="no such thing"):
        ahead(1.0)


def changed(run, **method):
    return dataclasses.replace(run, method=dataclasses.replace(run.method, **method))


KEPT = CompressorConfig(kind="sign", feedback="error")
RUNS = {
    "plain": RUN,
    "residuals": changed(RUN, updates=KEPT, upload_bits=None),
    "on the host": dataclasses.replace(changed(RUN, updates=KEPT), residuals="host"),
    "adam": changed(RUN, optimizer="adam"),
    "whole networks": FEDAVG,
}


@pytest.mark.slow
@pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_s_programs_are_compiled_once(compiled, config, resumed):
    """The shapes, types and places are those that they are called with."""
    programs = programs_of(prepare(config))
    state = programs.initial()
    if resumed:
        state = programs.place(jax.device_get(state))
    compiled.clear()
    programs.ahead()
    state, _ = programs.advance(state, 0, 1)
    programs.views(state)
    # Fewer if another test has left them in the cache.
    assert (number := len(compiled)) <= 2
    state, _ = programs.advance(state, 1, 2)
    programs.views(state)
    assert len(compiled) == number


@pytest.mark.slow
def test_so_are_those_of_a_sweep(compiled):
    """Further runs of a structure, as many at a time, compile nothing again."""
    jobs = [prepare(dataclasses.replace(RUN, seed=seed)) for seed in range(4)]
    most = max(job.partition.index.shape[1] for job in jobs)
    totals = []
    for ahead in (False, True):
        programs_of_some = programs_of_points(jobs[0], 2, most)
        compiled.clear()
        counts = []
        for some in (jobs[:2], jobs[2:]):
            programs = programs_of_some(some)
            if ahead:
                programs.ahead()
            state, _ = programs.advance(programs.initial(), 0, 1)
            programs.views(state)
            counts.append(len(compiled))
        assert counts[1] == counts[0]
        totals.append(counts[1])
    # The first count has programs of single operations, which are found again.
    assert totals[1] <= totals[0]
