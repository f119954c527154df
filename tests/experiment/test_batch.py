"""Programs of a sweep's runs go with their structure."""

import dataclasses
from functools import partial

import jax
import numpy as np

from fedjax_sl.experiment import batch, methods
from fedjax_sl.experiment.checkpoint import Checkpoint
from fedjax_sl.experiment.presets import METHODS
from fedjax_sl.experiment.side_by_side import side_by_side
from fedjax_sl.models.split import SplitModel, Stages
from fedjax_sl.models.vgg import ConvStage, DenseStage
from tests.footprint import footprint


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


def test_programs_go_with_their_structure(monkeypatch):
    """Of six structures the last is reached with as little as the second."""
    monkeypatch.setattr(methods, "split_model", small)
    usual = METHODS["fedsl"]
    data = dataclasses.replace(
        usual.data, num_clients=3, train_examples=60, test_examples=20
    )
    method = dataclasses.replace(usual.method, cohort_size=2, interval=1)
    usual = dataclasses.replace(usual, data=data, method=method, rounds=2, eval_every=2)
    sizes = [size for size in range(1, 7) for _ in range(3)]
    prepared = batch.jobs_of(
        {
            number: dataclasses.replace(usual, batch_size=size, seed=number)
            for number, size in enumerate(sizes)
        }
    )
    client, seen = jax.local_devices()[0].client, []
    for here in batch.alike(prepared, at_a_time=2):
        jobs = list(here.jobs.values())[:2]
        *_, last = side_by_side(
            here.programs(jobs), jobs, [Checkpoint(0, None, {})] * 2
        )
        assert last.done == 2
        assert all(np.isfinite(one.line["test_loss"]) for one in last.of_each)
        seen.append((len(client.live_executables()), footprint()))
    assert len(seen) == 6
    programs = [count for count, _ in seen]
    assert max(programs) <= programs[1]
    taken = [taken for _, taken in seen]
    assert taken[-1].maps < taken[1].maps + 4 * 10
    assert taken[-1].resident < taken[1].resident + 4 * 10e6
