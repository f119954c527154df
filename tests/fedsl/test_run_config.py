"""The configuration of a run of FedSL."""

import dataclasses

import pytest

from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.fedsl.spec import _in_a_period
from fedjax_sl.models.vgg import BLOCKS


@pytest.mark.parametrize("depth", BLOCKS)
def test_a_vgg_has_two_names(depth):
    named, deep = ModelConfig(name=f"vgg{depth}"), ModelConfig(depth=depth)
    assert named.resolved() == deep.resolved()
    assert named.title == deep.title
    assert FedSLRun(model=named).resolved() == FedSLRun(model=deep).resolved()


@pytest.mark.parametrize(
    ("every", "change", "said"),
    [
        (20, {}, False),
        (7, {}, True),
        (7, {"client_update": "relay"}, False),
        (7, {"client_update": "local"}, False),
        (7, {"interval": 1}, False),
    ],
)
def test_evaluations_between_aggregations_are_told(every, change, said):
    method = FedSLConfig(interval=5)
    run = FedSLRun(eval_every=every, method=dataclasses.replace(method, **change))
    assert bool(_in_a_period(run)) == said
