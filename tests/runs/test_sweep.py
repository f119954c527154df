"""Programs of a sweep's runs go with their structure."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from fedjax_sl.data.partitions import PARTITIONS
from fedjax_sl.fedsl import spec
from fedjax_sl.methods import presets
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.split import SplitModel, Stages
from fedjax_sl.models.vgg import ConvStage
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.runs import sweep
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.side_by_side import side_by_side


def small(model, train):
    """Two stages in the place of a VGG's eight, for the same images."""
    del model
    stages = (
        partial(ConvStage, 2, "group", True, "auto"),
        partial(DenseStage, train.num_classes, last=True),
    )
    return SplitModel(
        client=Stages(stages[:1]),
        server=Stages(stages[1:], first=1),
        input_shape=train.image.shape[1:],
        num_classes=train.num_classes,
    )


@pytest.mark.parametrize("name", PARTITIONS)
def test_options_of_a_partition_do_not_divide_runs_among_programs(name):
    assert set(PARTITIONS[name].options) <= set(sweep.OF_THE_PARTITION)


def test_runs_share_images_only_where_they_are_the_same():
    """Which images are held out is no matter of the partition."""
    usual = presets()["fedsl"][1].run
    held = (None, 100, 200, 100)
    configs = {
        number: dataclasses.replace(
            usual,
            data=dataclasses.replace(usual.data, held_out=count, partition_seed=number),
        )
        for number, count in enumerate(held)
    }
    groups = sweep.jobs_of(configs)
    assert [list(group) for group in groups] == [[0], [1, 3], [2]]
    for group in groups:
        for number, job in group.items():
            alone = prepare(configs[number])
            np.testing.assert_array_equal(job.test.label, alone.test.label)
            np.testing.assert_array_equal(job.train.label, alone.train.label)


@pytest.mark.slow
def test_programs_go_with_their_structure(monkeypatch):
    """The third is reached with as few as the second; arrays differ in shape."""
    monkeypatch.setattr(spec, "network", small)
    usual = presets()["fedsl"][1].run
    data = dataclasses.replace(usual.data, train_examples=60, test_examples=20)
    method = dataclasses.replace(usual.method, cohort_size=2, interval=1)
    usual = dataclasses.replace(
        usual, method=method, batch_size=2, rounds=1, eval_every=1
    )
    clients = (3, 3, 4, 4, 5, 5)
    prepared = sweep.jobs_of(
        {
            number: dataclasses.replace(
                usual, data=dataclasses.replace(data, num_clients=count), seed=number
            )
            for number, count in enumerate(clients)
        }
    )
    client, programs = jax.local_devices()[0].client, []
    for here in sweep.alike(prepared, at_a_time=2):
        jobs, start = list(here.jobs.values()), Checkpoint(0, None, {})
        *_, last = side_by_side(here.programs(jobs), jobs, [start] * 2)
        assert all(np.isfinite(one.line["test_loss"]) for one in last.of_each)
        programs.append(len(client.live_executables()))
    assert len(programs) == 3
    assert programs[2] <= programs[1]
