"""Any number of a method may be an argument of its programs, with any other."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl import Dataset
from fedjax_sl.compressors import COMPRESSORS
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.runs.arguments import OFF, arguments_of
from fedjax_sl.runs.build import on_data
from fedjax_sl.simulation import run_some_rounds, start


TRAINING = dict(warmup_rounds=2, cosine_rounds=9, weight_decay=1e-3, proximal=0.01)
PRIVATE = dict(clip_norm=2.0, noise_multiplier=0.5, max_update_norm=5.0)
LEVELS = LevelConfig(adapt="time", start=2, most=64, smoothing=0.8)
QSGD = CompressorConfig(kind="qsgd", bits=5)
STEP = AggregatorConfig(kind="adam", learning_rate=0.03)

FEDSL = {
    "techniques": dict(
        **dict(interval=3, learning_rate=0.03, server_learning_rate=0.04, momentum=0.8),
        **dict(prune_ratio=(0.2, 0.3), prune_start=2, prune_end=7, bits=(6, 7)),
        **dict(grad_bits=5, upload_bits=7, down_bits=9, dropout_rate=(0.3, 0.0)),
        **dict(quantizer_error=0.1, trim=0.2, client_weight="examples"),
    ),
    "privacy": TRAINING | PRIVATE | dict(interval=4),
    "levels": dict(updates=QSGD, levels=LEVELS, aggregator=STEP),
    "relay": dict(client_update="relay", server_update="sequential", interval=2),
    "own models": dict(client_update="local", cohort_size=4),
}
FEDLPQ = {
    "techniques": TRAINING | dict(keep_probability=(0.5, 0.6), bits=(7, 8), trim=0.2),
    "privacy": PRIVATE | dict(optimizer="sgd", momentum=0.7),
    "levels": dict(updates=QSGD, levels=LEVELS, aggregator=STEP),
    "controls": dict(control_variates=True, bits=32, optimizer="sgd", momentum=0.7),
}
KINDS = [kind for kind in COMPRESSORS if kind != "float32"]
OF_VECTORS = [kind for kind in KINDS if kind != "power_sgd"]


def compressed(kind):
    """Of some kind, with every number that it may have."""
    config = CompressorConfig(kind=kind, values="qsgd", bits=4, keep=0.3, explore=0.2)
    idle = {
        name: CompressorConfig.__dataclass_fields__[name].default
        for name in config.idle
    }
    return dataclasses.replace(config, **idle)


def everywhere(kind):
    return dict(updates=compressed(kind), activations=compressed(kind))


SETTINGS = [
    *((FedSLConfig, name, options) for name, options in FEDSL.items()),
    *((FedLPQConfig, name, options) for name, options in FEDLPQ.items()),
    *((FedSLConfig, kind, everywhere(kind)) for kind in KINDS),
    *((FedLPQConfig, kind, dict(updates=compressed(kind))) for kind in OF_VECTORS),
]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
    return Dataset.from_arrays(image, np.arange(24) % 3)


def job_of(kind, options, images):
    whole = {"cohort_size": 3} | options
    run, model = (
        (FedSLRun, ModelConfig(name="mlp", width=0.02, cut=1))
        if kind is FedSLConfig
        else (FedLPQRun, CNNConfig(name="mlp", width=0.02))
    )
    data = DataConfig(num_clients=4)
    return on_data(
        run(data=data, model=model, method=kind(**whole), batch_size=4, rounds=12),
        images,
        images,
    )


@pytest.mark.parametrize(
    "kind, name, options", SETTINGS, ids=[f"{k.__name__}-{n}" for k, n, _ in SETTINGS]
)
def test_numbers_may_be_traced(kind, name, options, images):
    job = job_of(kind, options, images)
    numbers, algorithm_of = arguments_of(job)
    leaves = jax.tree.leaves(job.config.method)
    assert len(numbers) == sum(leaf not in OFF for leaf in leaves) > 3

    def a_round(numbers):
        method, key = algorithm_of(numbers), jax.random.key(0)
        return run_some_rounds(
            method,
            start(method, key),
            job.train,
            job.partition,
            key=key,
            first=0,
            count=1,
            most=1,
            batch_size=4,
        )

    jax.eval_shape(a_round, numbers)
