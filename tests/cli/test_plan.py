"""The table of `plan` fits a terminal of 80 columns."""

import io

from rich.console import Console

from fedjax_sl.analysis.fedsl_bound import Choice
from fedjax_sl.cli.plan import table
from fedjax_sl.theory.bound_search import Plan
from fedjax_sl.theory.round_cost import Cost
from tests.commands import refused


def test_a_deadline_would_hide_what_a_round_takes(capsys):
    late = ["plan", "--target", "5", "--channel.deadline-s", "1"]
    assert "deadline_s=1.0: expected none" in refused(late, capsys)


def test_no_figure_is_cut_off():
    """Not even the longest of each column."""
    plan = Plan(
        Choice(16, 0.35, 32, 0.25, 100), 1.234e-5, 12345678, Cost(123456.7, 123456789.0)
    )
    file = io.StringIO()
    Console(file=file, width=80).print(table([plan], "Time against energy"))
    heads = "cut pruned bits dropped interval rounds seconds joules floor"
    figures = "16 0.35 32 0.25 100 12345678 1.235e+05 1.235e+08 1.23e-05"
    shown = [line.split() for line in file.getvalue().splitlines()]
    assert heads.split() in shown
    assert figures.split() in shown
