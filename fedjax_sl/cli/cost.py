"""`fedjax-sl cost METHOD`: what clients compute and send, as tables."""

from rich.console import Console

from fedjax_sl.cli.compact import compact
from fedjax_sl.cli.line import SUMMARIES, Line
from fedjax_sl.cli.options import Branch
from fedjax_sl.method_spec import CostTable
from fedjax_sl.methods import methods


def _show(found: CostTable, console: Console) -> None:
    table = compact(found.title)
    for column in found.columns:
        table.add_column(column, justify="right")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
    console.print(found.note)


def cost_command(line: Line, console: Console) -> None:
    """Prints a method's table.

    Raises:
      ValueError: if a value is out of range.
    """
    known = {name: spec.costs for name, spec in methods().items() if spec.costs}
    branches = {
        name: Branch(costs.options, costs.help) for name, costs in known.items()
    }
    name, options = line.parse_one_of(branches, SUMMARIES["cost"])
    _show(known[name].table(options), console)
