"""What is seen of a run while it lasts, on any terminal, and when it does not learn."""

import io
import math
import re

import pytest
from rich.console import Console

from fedjax_sl.runs.not_learning import not_learning
from fedjax_sl.runs.progress import reporting, seconds_left


LN10 = math.log(10)


def line(done, loss, *, test_loss=None, steps=1, accuracy=0.1, **views):
    return {
        "round": done,
        "step": steps * done,
        "train_loss": loss,
        "test_loss": loss if test_loss is None else test_loss,
        "test_accuracy": accuracy,
        **{f"{name}_test_accuracy": value for name, value in views.items()},
        "kept_ratio": 0.43,
        "uplink_bits": 1.26e9,
        "downlink_bits": 2.01e9,
    }


def seen(columns, *lines, rounds=220):
    """The last picture of a terminal of so many columns."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=columns, color_system=None)
    with reporting(console, rounds, 10) as report:
        for one in lines:
            report(one)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("columns", [60, 80, 110, 200])
def test_bar_and_figures_are_whole(columns):
    said = seen(columns, line(110, 0.07, accuracy=0.9803, pruned=0.9859))
    assert "…" not in said.split("compiling …")[-1]
    last = [text.strip() for text in said.splitlines()]
    bars = [text for text in last if "110/220" in text]
    assert bars and all(
        text.startswith("round") and "━━━" in text and "0:00:0" in text for text in bars
    )
    words = " ".join(last).split()
    for word in ("loss", "0.070", "0.9803", "pruned", "0.9859", "0.43", "1.26", "2.01"):
        assert word in words
    assert max(map(len, last)) <= columns


def test_where_guessing_is_not_beaten_it_is_said_once():
    said = seen(200, *(line(n, LN10) for n in range(20, 200, 20)))
    assert said.count("warning: ") == 1
    assert "for 60 rounds the loss has been no lower than that of guessing" in said
    assert "ln 10 = 2.303" in said and "smaller learning rate" in said


def test_a_rate_that_still_rises_is_not_blamed():
    """Said once of the warm-up, and once more where it does not help."""
    file = io.StringIO()
    plain = Console(file=file, width=200)
    with reporting(plain, 200, 10, warmup_rounds=100) as report:
        for n in range(20, 220, 20):
            report(line(n, LN10))
    said = [s for s in file.getvalue().splitlines() if s.startswith("warning: ")]
    assert [text.partition(" rounds ")[0] for text in said] == [
        "warning: for 60",
        "warning: for 100",
    ]
    warming, past = (text.rpartition("; ")[2] for text in said)
    assert warming == "the learning rate is still in its warm-up of 100 rounds."
    assert past == "a smaller learning rate may help."


def test_plain_lines_where_there_is_no_terminal():
    file = io.StringIO()
    with reporting(Console(file=file, width=200), 80, 10) as report:
        for n in (20, 40, 60, 80):
            report(line(n, 3.0))
    said = file.getvalue().splitlines()
    assert [text[:8] for text in said] == [
        *("round 20", "round 40", "round 60"),
        "warning:",
        "round 80",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        [line(20, LN10), line(40, LN10)],
        [line(100, LN10)],
        [line(20, 2.30), line(40, 2.30), line(60, 2.1)],
        [line(20, 2.30), line(40, 2.1), line(60, 2.30), line(80, 2.30)],
        # Skewed clients may learn where the common test set does not show it.
        [line(n, 1.0, test_loss=3.0) for n in (20, 40, 60)],
        [line(n, math.nan) for n in (20, 40, 60)],
    ],
)
def test_it_is_not_said_too_early_or_of_a_run_that_learns(lines):
    assert not_learning(lines, 10) is None


def test_a_loss_that_has_exploded_is_said_at_once():
    """Also in the warm-up; not of images that a skewed run does not know."""
    said = not_learning([line(20, 1e22)], 10, warmup_rounds=300) or ""
    assert said.startswith("the loss, 1e+22, is far above that of guessing, ln 10")
    assert not_learning([line(20, 1.0, test_loss=1e3)], 10) is None


def test_steps_count_and_not_rounds():
    """A round of local epochs is many steps; what was learned may be lost again."""
    said = not_learning([line(1, LN10, steps=30), line(2, LN10, steps=30)], 10)
    assert said and said.startswith("for 2 rounds ")
    lost = [line(20, 1.0), line(60, LN10), line(100, LN10)]
    assert (not_learning(lost, 10) or "").startswith("for 80 rounds ")


def test_compilation_does_not_count_into_the_time_left():
    """The first two come after a compilation of 100 s, the next two 4 s later."""
    assert seconds_left([100.0], 2, 8) is None
    assert seconds_left([100.0, 100.1], 2, 8) is None
    assert seconds_left([100.0, 100.0, 104.0, 104.0], 2, 8) == 8.0
    assert seconds_left([100.0, 100.0], 2, 2) == 0.0
