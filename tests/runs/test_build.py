"""Who owns what, and what a sweep may change of it within one program."""

import dataclasses
import json

import numpy as np
import pytest

from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.data import load
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.runs.build import divide, prepare
from fedjax_sl.runs.sweep import alike, jobs_of


DIGITS = load("digits", split="train")


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_a_partition_may_have_a_seed_of_its_own(partition):
    def owned(seed, own=None):
        config = DataConfig(partition=partition, partition_seed=own)
        return divide(config, DIGITS, seed).index

    np.testing.assert_array_equal(owned(0, own=3), owned(1, own=3))
    np.testing.assert_array_equal(owned(0, own=3), owned(3))
    np.testing.assert_array_equal(owned(5, own=0), owned(0))
    assert (
        owned(0, own=3).shape != owned(0).shape or (owned(0, own=3) != owned(0)).any()
    )


def test_a_configuration_without_a_seed_of_the_partition_is_as_it_was(tmp_path):
    values, path = json.loads(to_json(FedSLRun())), tmp_path / "config.json"
    for name in ("partition_seed", "min_size", "sizes", "feature_noise"):
        del values["data"][name]
    path.write_text(json.dumps(values))
    assert from_json(path) == FedSLRun()


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5])
def test_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=f"partition_seed={seed}: expected"):
        DataConfig(partition_seed=seed)


def test_what_the_message_suggests_can_be_given():
    uneven = DataConfig(partition="dirichlet", alpha=0.05, num_clients=30)
    with pytest.raises(ValueError, match="fewer than min_size=10; .* smaller min_size"):
        divide(uneven, DIGITS, 0)
    fewer = dataclasses.replace(uneven, min_size=1)
    assert divide(fewer, DIGITS, 0).count.min() >= 1
    with pytest.raises(ValueError, match="min_size=0: expected at least 1"):
        DataConfig(min_size=0)


@pytest.mark.slow
def test_partitions_that_differ_are_points_of_one_program():
    """Seeds and shapes of the partition; the images are what makes another."""
    run = FedSLRun(
        data=DataConfig(num_clients=4, train_examples=200),
        method=FedSLConfig(cohort_size=4),
        rounds=20,
    )

    def on(**change):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **change))

    def of_programs(*configs):
        prepared = jobs_of(dict(enumerate(configs)))
        return [found.jobs for found in alike(prepared, at_a_time=2)]

    changes = [{"partition_seed": 1}, {"partition_seed": 2}, {"partition": "shards"}]
    changes += [
        {"partition": "dirichlet", "alpha": a, "min_size": 1} for a in (0.2, 9.0)
    ]
    (together,) = of_programs(*(on(**change) for change in changes))
    assert list(together) == list(range(len(changes)))
    owned = [job.partition.index.tobytes() for job in together.values()]
    assert len(set(owned)) == len(changes)
    apart = of_programs(run, on(train_examples=100), on(num_clients=5))
    assert [list(jobs) for jobs in apart] == [[0], [1], [2]]


def test_more_examples_than_there_are_are_refused():
    run = FedSLRun(data=DataConfig(test_examples=1000))
    with pytest.raises(ValueError, match="test_examples=1000: expected 1 to 355"):
        prepare(run)
