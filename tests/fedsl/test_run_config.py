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
    ("every", "rounds", "change", "said"),
    [
        (20, 220, {}, ""),
        (7, 220, {}, "eval_every=7"),
        # The last evaluation is after the last round.
        (5, 13, {}, "rounds=13"),
        (5, 3, {}, "eval_every=3"),
        (7, 13, {"client_update": "relay"}, ""),
        (7, 13, {"client_update": "local"}, ""),
        (7, 13, {"interval": 1}, ""),
    ],
)
def test_evaluations_between_aggregations_are_told(every, rounds, change, said):
    method = dataclasses.replace(FedSLConfig(interval=5), **change)
    run = FedSLRun(eval_every=every, rounds=rounds, method=method)
    found = _in_a_period(run)
    assert len(found) == bool(said) and "".join(found).startswith(said)
