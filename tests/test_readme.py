"""What documents show is what the code does."""

import re
import runpy
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@pytest.mark.slow
def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code = "\n".join(blocks)
    for long, short in (("rounds=100", "rounds=1"), ("eval_every=100", "eval_every=1")):
        assert long in code
        code = code.replace(long, short)
    names = {}
    exec(compile(code, README, "exec"), names)
    assert names["bits"] == 4
    assert names["back"].level.tolist() == names["layer"].level.tolist()


def test_every_folder_is_made_before_it_is_read():
    """By an earlier command, as one types them from top to bottom."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    made, read = set(), []
    demo = re.search("--folder (runs/\\S+)", (ROOT / "Makefile").read_text())
    for command in re.sub("#.*", "", text).splitlines():
        if command.startswith("make demo"):
            made.add(demo[1])
        words = command.split()
        if words[:1] != ["fedjax-sl"]:
            continue
        folders = [word for word in words if word.startswith("runs/")]
        if words[1] in ("run", "sweep") and "--init-from" not in words:
            made.update(folders)
        read += folders
        assert made.issuperset(folders), command
    assert {"runs/demo"} < set(read)


def test_the_table_of_fields_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "docs/make_fields.py"))["page"]()
    assert (ROOT / "docs/fields.md").read_text() == written
