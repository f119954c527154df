"""Imports only go down."""

import ast
from pathlib import Path

import pytest

import fedjax_sl


ROOT = Path(fedjax_sl.__file__).parent
SEEN = ("run_config", "spec", "presets", "panels", "next_update", "estimates")
FLOORS = {
    "algorithm": 0,
    "archive": 0,
    "callable_module": 0,
    "checks": 0,
    "config_base": 0,
    "training": 1,
    "entry_points": 0,
    "errors": 0,
    "extras": 0,
    "reading": 0,
    "compression": 0,
    "compressors": 1,
    "layers": 0,
    "models": 1,
    "data": 1,
    "traffic": 1,
    "federation": 2,
    "fedsl": 3,
    "fedlpq": 3,
    "evaluation": 3,
    "simulation": 3,
    "sweep": 3,
    "batches": 3,
    "analysis": 3,
    "api": 4,
    "configs": 4,
    "method_spec": 5,
    # What of a method the rest of the package sees, in the method's own folder.
    **{f"fedsl.{name}": 6 for name in SEEN},
    **{f"fedlpq.{name}": 6 for name in SEEN},
    "custom": 6,
    "methods": 7,
    "configs.serialization": 8,
    "records": 9,
    "runs": 10,
    "theory": 11,
    "reports": 12,
    "cli": 13,
    "__main__": 14,
}
METHODS = {"fedsl", "fedlpq"}
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
    room = module.split(".")[0]
    for other in imported(path):
        assert floor_of(other) <= floor_of(module), f"{module} imports {other}"
        of_method = other.split(".")[0] in METHODS
        if room in METHODS:
            assert other.split(".")[0] not in METHODS - {room}
            core = floor_of(module) == FLOORS[room]
            assert not core or not other.startswith(("analysis", "simulation"))
        elif of_method:
            assert module in ("methods", "api"), f"{module} names {other}"
