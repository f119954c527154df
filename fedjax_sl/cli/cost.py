"""`fedjax-sl cost METHOD`: what clients compute and send, as tables."""

from rich.console import Console
from rich.table import Table

from fedjax_sl.cli.options import parse
from fedjax_sl.errors import InputError
from fedjax_sl.method_spec import CostTable
from fedjax_sl.methods import methods


def _usage() -> str:
    lines = [
        f"  {name:<12} {spec.costs.help}\n"
        for name, spec in methods().items()
        if spec.costs
    ]
    return f"usage: fedjax-sl cost METHOD [--help] [OPTIONS]\n\n{''.join(lines)}"


def _show(found: CostTable, console: Console) -> None:
    table = Table(title=found.title, title_justify="left")
    for column in found.columns:
        table.add_column(column, justify="right")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
    console.print(found.note)


def cost_command(arguments: list[str], console: Console) -> None:
    """Prints what was asked for.

    Raises:
      ValueError: if a value is out of range.
    """
    known = {name: spec.costs for name, spec in methods().items() if spec.costs}
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(_usage(), end="", markup=False, soft_wrap=True)
        return
    if not arguments or arguments[0] not in known:
        given = repr(arguments[0]) if arguments else "no method"
        raise InputError(f"{given}: expected one of {tuple(known)}.")
    costs = known[arguments[0]]
    options = parse(costs.options, arguments[1:], command=f"cost {arguments[0]}")
    _show(costs.table(options), console)
