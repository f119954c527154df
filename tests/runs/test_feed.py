"""Images that do not fit the devices are streamed: the same run, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.cli.main import main
from fedjax_sl.runs.feed import fitting
from tests.commands import refused
from tests.runs.test_resume import SMALL, TINY, assert_same_run


@pytest.mark.parametrize(("run", "mib"), [(TINY, 0.005), (SMALL, 0.05)])
def test_a_streamed_run_is_the_same(run, mib, tmp_path):
    asked = ["run", *run, "--method.crop-pixels", "1", "--rounds", "8"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main([*asked, "--folder", str(whole)])
    main([*asked, "--folder", str(parts), "--stream-mib", str(mib)])
    assert_same_run(parts, whole)


def test_it_is_resumed_with_another_budget(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(["run", *TINY, "--rounds", "8", "--folder", str(whole)])
    main(
        ["run", *TINY, "--rounds", "4", "--folder", str(parts), "--stream-mib", "0.01"]
    )
    main(["run", "--resume", "--rounds", "8", "--folder", str(parts)])
    assert_same_run(parts, whole)


def test_a_budget_too_small_for_a_round_says_what_is_needed(tmp_path, capsys):
    asked = ["run", *TINY, "--rounds", "8", "--folder", str(tmp_path / "run")]
    said = refused([*asked, "--stream-mib", "0.0001"], capsys)
    assert "expected at least" in said and "round 0" in said
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
