"""The configuration of a run of FedSL."""

import pytest

from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.models.vgg import BLOCKS


@pytest.mark.parametrize("depth", BLOCKS)
def test_a_vgg_has_two_names(depth):
    named, deep = ModelConfig(name=f"vgg{depth}"), ModelConfig(depth=depth)
    assert named.resolved() == deep.resolved()
    assert named.title == deep.title
    assert FedSLRun(model=named).resolved() == FedSLRun(model=deep).resolved()
