"""Imports only go down."""

import ast
from pathlib import Path

import pytest

import fedjax_sl


ROOT = Path(fedjax_sl.__file__).parent
FLOORS = {
    "algorithm": 0,
    "callable_module": 0,
    "checks": 0,
    "config_base": 0,
    "errors": 0,
    "reading": 0,
    "compression": 0,
    "layers": 0,
    "models": 1,
    "data": 1,
    "traffic": 1,
    "federation": 2,
    "fedsl": 3,
    "fedlpq": 3,
    "simulation": 3,
    "sweep": 3,
    "analysis": 3,
    "api": 4,
    "configs": 5,
    "records": 6,
    "runs": 7,
    "theory": 8,
    "reports": 9,
    "cli": 10,
    "__main__": 11,
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def floor_of(module):
    """The floor of the longest listed prefix of a dotted name inside the package."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in FLOORS:
            return FLOORS[prefix]
    raise KeyError(f"{module} has no floor")


def imported(path):
    """Modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (n.removeprefix("fedjax_sl.") for n in names if "fedjax_sl." in n)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    relative = path.relative_to(ROOT).with_suffix("")
    module = ".".join(part for part in relative.parts if part != "__init__")
    for other in imported(path):
        assert floor_of(other) <= floor_of(module), f"{module} imports {other}"
        both = {module.split(".")[0], other.split(".")[0]}
        assert both != {"fedsl", "fedlpq"}
        assert "simulation" not in both or not both & {"fedsl", "fedlpq", "analysis"}
