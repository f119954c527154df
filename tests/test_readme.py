"""The README's library example runs as it stands, only shorter."""

import re
from pathlib import Path

import pytest


README = Path(__file__).parents[1] / "README.md"


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
