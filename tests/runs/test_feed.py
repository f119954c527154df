"""Images that do not fit the devices are streamed: the same batches, bit for bit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.cli.main import main
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.runs.feed import fitting, resident, streamed
from fedjax_sl.simulation import drawn
from tests.commands import refused
from tests.runs.test_resume import SMALL, TINY, lines_of
from tests.worlds import (
    SHAPE,
    assert_equal,
    tiny_dataset,
    tiny_model,
    tiny_partition,
)


def batches(algorithm, state, feed, partition, key, *, rounds):
    """Images, labels, numbers and weights of every round, as a feed hands them out."""
    found = []
    for part in feed.parts(0, rounds):
        method, data = feed.reading(algorithm, part.examples)
        for number in range(part.first, part.first + part.count):
            cohort, _ = drawn(
                method,
                state._replace(round=jnp.int32(number)),
                data,
                partition,
                key=key,
                number=jnp.int32(number),
                batch_size=4,
            )
            at, examples = cohort.index, cohort.examples
            numbers = examples.numbers(at)
            found.append(
                (examples.image[at], examples.label[at], numbers, cohort.weight)
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedsl", "fedlpq"])
def test_batches_are_those_of_the_whole_set(method, key):
    train = tiny_dataset(48)
    partition = tiny_partition(train)
    if method == "fedsl":
        config = FedSLConfig(cohort_size=2, interval=2)
        algorithm = fedsl(tiny_model(), config)
    else:
        config = FedLPQConfig(cohort_size=2, local_epochs=1)
        algorithm = fedlpq(tiny_model().whole, config, input_shape=SHAPE, num_clients=4)
    shape = jax.eval_shape(algorithm.init, key)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    image = train.image[0].nbytes
    narrow = streamed(
        algorithm,
        train,
        jax.tree.map(jnp.asarray, partition),
        key,
        shape=shape,
        batch_size=4,
        most=10,
        mib=2 * 26 * image / 2**20,
        place=partial(jax.tree.map, jnp.asarray),
    )
    assert len(list(narrow.parts(0, 7))) > 1
    whole = resident(train, partial(jax.tree.map, jnp.asarray))
    given = [
        batches(algorithm, state, feed, partition, key, rounds=7)
        for feed in (narrow, whole)
    ]
    assert_equal(*given)


def results(folder):
    """What is learned, of every evaluation."""
    lines = lines_of(folder)
    return [[line["train_loss"], line["test_loss"]] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "mib"), [(TINY, 0.08), (SMALL, 0.5)])
def test_a_streamed_run_is_the_same(run, mib, tmp_path):
    """To the rounding of another program; crops are keyed by the examples' numbers."""
    asked = ["run", *run, "--method.crop-pixels", "1", "--rounds", "8"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main([*asked, "--folder", str(whole)])
    main([*asked, "--folder", str(parts), "--stream-mib", str(mib)])
    np.testing.assert_allclose(results(parts), results(whole), rtol=1e-4)


@pytest.mark.slow
def test_it_is_resumed_with_another_budget(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(["run", *TINY, "--rounds", "8", "--folder", str(whole)])
    main(
        ["run", *TINY, "--rounds", "4", "--folder", str(parts), "--stream-mib", "0.03"]
    )
    main(["run", "--resume", "--rounds", "8", "--folder", str(parts)])
    np.testing.assert_allclose(results(parts), results(whole), rtol=1e-4)


def test_a_budget_too_small_for_a_round_says_what_is_needed(tmp_path, capsys):
    asked = ["run", *TINY, "--rounds", "8", "--folder", str(tmp_path / "run")]
    said = refused([*asked, "--stream-mib", "0.01"], capsys)
    assert "expected at least" in said and "round 0" in said
    assert not (tmp_path / "run").exists()
    assert "a number > 0" in refused([*asked, "--stream-mib", "0"], capsys)


def test_in_a_sweep_the_whole_set_is_on_the_device(tmp_path, capsys):
    asked = ["sweep", *TINY, "--seeds", "2", "--folder", str(tmp_path / "sweep")]
    assert "in a sweep" in refused([*asked, "--stream-mib", "1"], capsys)


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=4), min_size=1),
    st.integers(4, 40),
)
def test_parts_hold_what_their_rounds_need_and_no_more_than_fits(rounds, rows):
    index = np.array(rounds)
    taken, needed = fitting(index, rows)
    assert taken >= 1 and len(needed) <= rows
    np.testing.assert_array_equal(needed, np.unique(index[:taken]))
    if taken < len(index):
        assert len(np.unique(index[: taken + 1])) > rows
