"""Each kind of end has a code and a sentence of its own."""

import ast
import errno
from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_sl
from fedjax_sl.cli import main
from fedjax_sl.errors import InputError
from fedjax_sl.records.disk import DiskError, writing
from fedjax_sl.runs.segments import Diverged
from fedjax_sl.runs.signals import Stopped


@pytest.fixture
def ends(monkeypatch, capsys):
    """What a command that raises something ends with: code and what is said."""
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)

    def ended(function):
        monkeypatch.setattr(main, "_command", lambda _: lambda *_: function())
        with pytest.raises(SystemExit) as stop:
            main.main(["cost"])
        return stop.value.code, capsys.readouterr().err

    return ended


def raising(error):
    def function():
        raise error

    return function


MISTAKES = [
    lambda: int("seven"),
    lambda: np.zeros(3).reshape(2, 2),
    lambda: {}["rate"],
    lambda: 1 / 0,
    raising(ValueError("a mistake")),
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_ours_is_not_the_users(ends, mistake):
    """With all that is needed to report it."""
    code, said = ends(mistake)
    assert code == 70
    assert "Traceback (most recent call last)" in said
    last = said.splitlines()[-1]
    assert last.startswith("internal error: ") and "Please report it" in last
    assert f"jax {jax.__version__}" in last and "Python 3." in last


def test_what_was_asked_for_is_one_sentence(ends):
    code, said = ends(raising(InputError("bits=1: expected 2 to 32.")))
    assert (code, said) == (2, "error: bits=1: expected 2 to 32.\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "gone.json"), 2),
        (PermissionError("runs cannot be written to."), 2),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "."), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 74),
        (OSError(errno.EIO, "Input/output error"), 74),
        (DiskError("runs/a cannot be written: No space left on device."), 74),
        (Diverged("round 3, client 1"), 3),
        (Stopped(15), 143),
        (Stopped(2), 130),
        (MemoryError(), 71),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 71),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_has_a_code(ends, error, code):
    found, said = ends(raising(error))
    assert found == code
    assert "Traceback" not in said and said.count("\n") <= 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EIO])
def test_what_cannot_be_written_is_named(ends, number):
    """A folder that is gone while a run writes to it was no bad input."""

    def fails():
        with writing(Path("runs/a/metrics.jsonl")):
            raise OSError(number, "it says why")

    code, said = ends(fails)
    assert code == 74
    assert said == "error: runs/a/metrics.jsonl cannot be written: it says why.\n"


ROOT = Path(fedjax_sl.__file__).parent


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_refusals_have_a_type_of_their_own(path):
    """A ValueError of another kind is what a library answers a mistake of ours with."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and node.exc is not None:
            names = {n.id for n in ast.walk(node.exc) if isinstance(n, ast.Name)}
            assert "ValueError" not in names, f"line {node.lineno}: raise InputError"
