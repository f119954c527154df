"""The setup of the experiments on FedLP-Q: as published, and reduced for a CPU.

The reduced network is half as wide, so its layers have a quarter of the parameters.
The relative variance of quantisation is bounded by M / 4^(b + 1), so 9 and 7 bits
correspond to the published 10 and 8.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl import (
    Algorithm,
    Dataset,
    FedLPQConfig,
    Partition,
    cifar_cnn,
    fedlpq,
    load,
)
from fedjax_sl.data import dirichlet, iid
from fedjax_sl.federation.devices import mesh, sharded
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES
from fedjax_sl.simulation import simulate


@dataclass(frozen=True)
class Scale:
    """The size of the experiments.

    Attributes:
      name: name of the results folder.
      num_clients, cohort_size, local_epochs, rounds, batch_size: N, K, E, T, B.
      train_examples, test_examples: number of images used of each split.
      width: width of the network.
      bits: bits of the columns; 32 is float32.
    """

    name: str
    num_clients: int
    cohort_size: int
    local_epochs: int
    rounds: int
    batch_size: int
    train_examples: int
    test_examples: int
    width: float
    bits: tuple[int, ...]


REDUCED = Scale("reduced", 20, 4, 2, 10, 10, 5000, 2000, 0.5, (32, 9, 7))
FULL = Scale("full", 100, 10, 5, 200, 10, 50000, 10000, 1.0, (32, 10, 8))

PARTITIONS = ("iid", "non-iid")
ALPHA = 1.0
"""Concentration of the Dirichlet partition that replaces the published non-iid one."""


def world(scale: Scale, partition: str) -> tuple[Dataset, Dataset, Partition]:
    """Returns training and test images of CIFAR-10, and their partition."""
    train = load("cifar10", split="train").first(scale.train_examples, "train_examples")
    test = load("cifar10", split="test").first(scale.test_examples, "test_examples")
    rng = np.random.default_rng(0)
    if partition == "iid":
        owners = iid(rng, train.label, scale.num_clients)
    else:
        owners = dirichlet(rng, train.label, scale.num_clients, alpha=ALPHA)
    return train, test, owners


def algorithm(scale: Scale, config: FedLPQConfig) -> Algorithm:
    """Builds FedLP-Q with its clients spread over this machine's devices."""
    models = [cifar_cnn(complexity=c, width=scale.width) for c in COMPLEXITIES]
    return fedlpq(
        models[-1] if config.preference is None else models,
        config,
        num_clients=scale.num_clients,
        over_clients=sharded(mesh(scale.cohort_size)),
    )


def config_of(scale: Scale, keep: float, preference, bits: int) -> FedLPQConfig:
    """Returns the configuration of a scheme."""
    # Arrays are arguments of the compiled program, which rows share.
    return FedLPQConfig(
        cohort_size=scale.cohort_size,
        local_epochs=scale.local_epochs,
        keep_probability=jnp.float32(keep),
        preference=preference,
        bits=jnp.int32(bits),
    )


@partial(jax.jit, static_argnames=("scale", "rounds", "evaluations"))
def play(config, key, train, test, owners, *, scale, rounds, evaluations):
    """Runs `simulate` with so many evaluations, as one program for all values."""
    return simulate(
        algorithm(scale, config),
        train,
        owners,
        key,
        test=test,
        rounds=rounds,
        batch_size=scale.batch_size,
        eval_every=rounds // evaluations,
    )
