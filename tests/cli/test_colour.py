"""Who asks for no colour (no-color.org) gets none."""

import io
import re

import pytest
from rich.console import Console

from fedjax_sl.runs.progress import bar


def shown():
    """What a terminal of 256 colours gets of a progress bar."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="256", width=80)
    with bar(console, "runs") as progress:
        progress.update(progress.add_task("", total=4), completed=2)
    return file.getvalue()


@pytest.mark.parametrize("asked", [False, True])
def test_colours_are_left_out_when_asked(asked, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if asked:
        monkeypatch.setenv("NO_COLOR", "1")
    codes = re.findall(r"\x1b\[([\d;]*)m", shown())
    parts = {part for code in codes for part in code.split(";")}
    coloured = parts & {"38", "48", *(str(n) for n in (*range(30, 38), *range(90, 98)))}
    assert bool(coloured) != asked
