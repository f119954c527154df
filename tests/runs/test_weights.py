"""Weights of the whole network go out of a run, and into one with another cut."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.data.cohort import normalize
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.named_arrays import by_name
from fedjax_sl.records.weights_file import read_weights, write_weights
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.init_from import models_of
from fedjax_sl.runs.programs import programs_of
from tests.commands import refused
from tests.worlds import assert_close, assert_equal, tiny_model


DATA = DataConfig(num_clients=4, train_examples=120, test_examples=40)
RUN = FedSLRun(
    data=DATA,
    model=ModelConfig(name="mlp", width=0.05, cut=1),
    method=FedSLConfig(cohort_size=3, interval=2),
    rounds=3,
    eval_every=3,
)
FEDAVG = FedLPQRun(
    data=DATA,
    model=CNNConfig(name="mlp", width=0.05),
    method=FedLPQConfig(cohort_size=3),
)


def at_cut(cut):
    return dataclasses.replace(RUN, model=dataclasses.replace(RUN.model, cut=cut))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run that ends between two aggregations, and the file of its weights."""
    base = tmp_path_factory.mktemp("weights")
    folder, file = base / "run", base / "weights.npz"
    options = ["--model.name", "mlp", "--model.width", "0.05", "--model.cut", "1"]
    options += ["--data.num-clients", "4", "--data.train-examples", "120"]
    options += ["--data.test-examples", "40", "--method.cohort-size", "3"]
    options += ["--method.interval", "2", "--rounds", "3", "--eval-every", "3"]
    main(["run", "fedsl", *options, "--folder", str(folder)])
    main(["export", str(folder), str(file)])
    return folder, file


def begun(config, file):
    """A run's state before its first round, and its algorithm."""
    job = prepare(config)
    return models_of(job, programs_of(job), file).state, job.method.algorithm


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [at_cut(1), at_cut(2), FEDAVG], ids=["same", "another cut", "FedAvg"]
)
def test_a_run_begins_from_the_weights_of_another(exported, config):
    folder, file = exported
    state, algorithm = begun(config, file)
    with np.load(file) as archive:
        found = by_name(algorithm.weights(state))
        assert set(archive.files) == set(found)
        for name, array in found.items():
            # Means of equal models round.
            np.testing.assert_allclose(array, archive[name], rtol=1e-6, atol=1e-9)
    # The model that the run was evaluated as, at its end.
    job = prepare(read(folder).config)
    logits = algorithm.predict(state, normalize(job.test.image))
    right = (np.argmax(logits, axis=1) == job.test.label).mean()
    assert right == pytest.approx(read(folder).lines[-1]["test_accuracy"])


@pytest.mark.slow
def test_all_clients_begin_from_them(exported):
    state, algorithm = begun(at_cut(2), exported[1])
    for leaf in jax.tree.leaves(state.client):
        assert (leaf == leaf[:1]).all() and len(leaf) == 3
    assert_equal(state.anchor, jax.tree.map(lambda x: x[0], state.client["params"]))
    main(
        ["run", "--config", str(exported[0] / "config.json"), "--init-from"]
        + [str(exported[1]), "--folder", str(exported[0].with_name("further"))]
    )


def test_names_and_shapes_are_those_of_the_network(tmp_path, key):
    algorithm = fedsl(tiny_model(), FedSLConfig(cohort_size=2))
    state = algorithm.init(key)
    weights = algorithm.weights(state)
    path = tmp_path / "weights.npz"
    write_weights(path, weights)
    assert_equal(read_weights(path, weights), weights)
    twice = jax.tree.map(lambda x: 2 * x, weights)
    assert_close(algorithm.weights(algorithm.with_weights(state, twice)), twice)
    arrays = dict(by_name(weights))
    name = min(arrays)
    for wrong, said in (
        ({name: arrays[name][..., :1]}, f"{name}: expected float32"),
        ({name: arrays[name].astype(np.float16)}, "found float16"),
        ({"else": np.ones(2)}, "else: expected no such array"),
    ):
        np.savez(path, **(arrays | wrong))
        with pytest.raises(InputError, match=said):
            read_weights(path, weights)
    del arrays[name]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=f"{name}: .*found nothing"):
        read_weights(path, weights)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="no archive of numpy.savez"):
        read_weights(path, weights)


@pytest.mark.slow
def test_nothing_is_overwritten_nor_made_up(exported, tmp_path, capsys):
    folder, file = exported
    before = file.read_bytes()
    assert "exists: expected --overwrite" in refused(["export", folder, file], capsys)
    assert "ends in .npz" in refused(["export", folder, tmp_path / "x.zip"], capsys)
    assert file.read_bytes() == before
    main(["export", str(folder), str(file), "--overwrite"])
    assert (
        "no such file"
        in refused(
            ["run", "fedsl", "--init-from", tmp_path / "none.npz"], capsys
        ).lower()
    )
    own = dataclasses.replace(RUN.method, client_update="local", cohort_size=4)
    with pytest.raises(InputError, match="no global model in a run of"):
        begun(dataclasses.replace(RUN, method=own), file)
