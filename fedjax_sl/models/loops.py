"""MACs inside of loops and branches, through which no axis is followed."""

from collections.abc import Callable
from functools import partial
from typing import Any


def macs_inside(equation: Any, start: Callable[[], Any]) -> int:
    """Counts the MACs of a loop, or of the branch that takes most.

    Args:
      equation: one of `primitives.BRANCHING`.
      start: makes a `Walker` for a program of its own.

    Returns:
      The MACs of all its turns; of one, where only a run tells how many there are.
    """
    params, count = equation.params, partial(_macs, start)
    if equation.primitive.name == "scan":
        return params["length"] * count(params["jaxpr"])
    if equation.primitive.name == "cond":
        return max(map(count, params["branches"]))
    return count(params["cond_jaxpr"]) + count(params["body_jaxpr"])


def _macs(start: Callable[[], Any], program: Any) -> int:
    """Counts the MACs of a program of whose inputs nothing is known."""
    walker, inputs = start(), program.jaxpr.invars
    walker.run(program.jaxpr, [walker.opaque(each.aval.shape) for each in inputs])
    return sum(product.macs for product in walker.products)
