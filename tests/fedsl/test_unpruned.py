"""A ratio that prunes nothing is said to, and only such a one."""

import jax
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.fedsl.unpruned import unpruned
from fedjax_sl.runs.build import prepare
from tests.commands import PERCEPTRON
from tests.worlds import tiny_model


@pytest.mark.parametrize(
    ("method", "said"),
    [
        # The tiny network has 4 and 6 filters.
        ({"prune_ratio": 0.1}, True),
        ({"prune_ratio": (0.0, 0.1)}, True),
        ({"prune_ratio": 0.17}, False),
        ({"prune_ratio": (0.0, 0.3)}, False),
        ({"prune_ratio": 0.0}, False),
        # One of all ten.
        ({"prune_ratio": 0.1, "prune_scope": "global"}, False),
        ({"prune_ratio": 0.05, "prune_scope": "global"}, True),
        ({"prune_ratio": 0.1, "granularity": "weight"}, False),
    ],
)
def test_of_a_ratio(method, said):
    assert bool(unpruned(FedSLConfig(**method), tiny_model())) == said


def test_traced_ratios_are_not_looked_at():
    def count(ratio):
        return len(unpruned(FedSLConfig(prune_ratio=ratio), tiny_model()))

    # Also while a program is traced, in which a plain ratio is no traced one.
    assert jax.jit(lambda ratio: (count(ratio), count(0.1)))(0.1) == (0, 1)


def run(ratio):
    return FedSLRun(
        data=DataConfig(num_clients=10),
        model=ModelConfig(name="simple-cnn", cut=1, width=0.25),
        method=FedSLConfig(prune_ratio=ratio),
    )


def test_a_job_has_the_warning():
    (sentence,) = prepare(run(0.35)).method.warnings
    assert sentence.endswith("the client's half has at most 2 in a layer")
    assert prepare(run(0.5)).method.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_it_is_printed_once(command, tmp_path, capsys):
    options = (
        "--model.cut 1 --method.prune-ratio 0.001 --rounds 1 --eval-every 1".split()
    )
    seeds = ["--seeds", "2"] if command == "sweep" else []
    folder = ["--folder", str(tmp_path / "it")]
    main([command, "fedsl", *PERCEPTRON, *options, *seeds, *folder])
    assert capsys.readouterr().out.count("warning: prune_ratio=0.001: no filter") == 1
