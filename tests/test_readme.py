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


def test_the_table_of_fields_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "docs/make_fields.py"))["page"]()
    assert (ROOT / "docs/fields.md").read_text() == written
