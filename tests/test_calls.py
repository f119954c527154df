"""Whoever reads a call with many arguments sees what each of them is."""

import ast
from pathlib import Path

import pytest

import fedjax_sl


ROOT = Path(fedjax_sl.__file__).parent
MOST = 4
VARIADIC = {"reshape", "switch", "_Bar"}
"""Functions of other packages whose last arguments are one sequence; `_Bar` is one of
rich's."""


def _name(function):
    return getattr(function, "attr", getattr(function, "id", None))


def long_calls(path):
    """Lines of calls with more arguments by position than a reader can tell apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and len(node.args) > MOST:
            if _name(node.func) not in VARIADIC:
                yield node.lineno


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_arguments_beyond_the_fourth_are_named(path):
    assert not list(long_calls(path))
