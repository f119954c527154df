"""Builds everything that a run needs from its configuration."""

from functools import partial
from typing import NamedTuple

import numpy as np

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.checks import check_alike
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.noise import feature_noise
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import load
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.federation.faults import (
    client_dropout,
    message_corruption,
    skip_empty_rounds,
)
from fedjax_sl.federation.memory import mapping_named
from fedjax_sl.method_spec import Built
from fedjax_sl.methods import spec_of
from fedjax_sl.runs.stragglers import in_time


BROUGHT = (
    "a run of a program's own algorithm: expected that program to start and to resume "
    "it (fedjax_sl.runs.custom)."
)

NOISE = 1
"""Purpose of the draws of noise, beside the seed of the partition."""


class Job(NamedTuple):
    """A run that is ready to start.

    Attributes:
      config: resolved configuration.
      method: the method.
      train: training examples.
      test: examples to evaluate on.
      partition: partition of the training examples among clients.
      in_time: `[T, N]` bool, clients that are no stragglers in each round; None if
        stragglers are not excluded.
    """

    config: RunConfig
    method: Built
    train: Dataset
    test: Dataset
    partition: Partition
    in_time: np.ndarray | None


def divide(config: DataConfig, train: Dataset, seed: int) -> Partition:
    """Partitions examples among clients.

    Args:
      config: kind of the partition, and its parameters.
      train: the n examples.
      seed: the run's seed, used if the partition has none of its own.

    Returns:
      A partition.

    Raises:
      ValueError: if a client would own no example, or the examples have no owners whom
        the partition asks for.
    """
    kind, own = config.partitioner(), config.partition_seed
    column = getattr(train, kind.by)
    if column is None:
        raise InputError(
            f"partition={config.partition!r}: expected data that name a client of each "
            f"training example, which {train.name!r} do not."
        )
    # NumPy on the host: the sizes that are drawn become shapes.
    rng = np.random.default_rng(seed if own is None else own)
    partition = kind(rng, column, config.num_clients)
    # Further on a count of 0 marks padding, see `Cohort`.
    if not partition.count.all():
        raise InputError(
            f"client {partition.count.argmin()} has no examples: expected fewer "
            "clients (num_clients), another partition or another partition_seed."
        )
    return partition


def build(
    config: RunConfig, train: Dataset, partition: Partition, *, one_device: bool = False
) -> Built:
    """Builds the method of a configuration, its clients mapped as configured.

    Args:
      config: the run; hyperparameters of its method may be traced.
      train: training examples.
      partition: partition among the N clients, `[N, M]`; it may be traced.
      one_device: keep all clients on one device, as other devices train other runs.

    Returns:
      The method.

    Raises:
      ValueError: if model and data do not fit together.
    """

    def choose_map(client_bytes: int) -> ClientMap:
        over = mapping_named(
            config.mapping,
            cohort_size=config.cohort_size,
            client_bytes=client_bytes,
            chunk=config.chunk,
        )
        return over.on_one_device() if one_device else over

    make = spec_of(config).build
    if make is None:
        raise InputError(BROUGHT)
    built = make(config, train, partition, choose_map)
    faulty, with_config = partial(with_faults, config), built.with_config
    return built._replace(
        algorithm=faulty(built.algorithm),
        with_config=with_config and (lambda method: faulty(with_config(method))),
    )


def with_faults(config: RunConfig, algorithm: Algorithm) -> Algorithm:
    """Adds the faults of a configuration to a method."""
    # Never traced: a run without faults compiles nothing of them.
    if config.corruption_probability > 0:
        algorithm = message_corruption(
            algorithm, config.corruption_probability, config.corruption
        )
    if config.failure_probability > 0:
        algorithm = client_dropout(algorithm, config.failure_probability)
    # Only these faults leave cohorts without any client.
    if config.failure_probability > 0 or config.drop_stragglers:
        algorithm = skip_empty_rounds(algorithm)
    return algorithm


def on_data(config: RunConfig, train: Dataset, test: Dataset) -> Job:
    """Builds a run on data that are already loaded.

    Args:
      config: the run.
      train: training examples of its data set.
      test: examples to evaluate on.

    Returns:
      The job, its configuration resolved.

    Raises:
      ValueError: if a value of the configuration is out of range.
    """
    # config.json has resolved values: a later version's defaults change no run.
    config = config.resolved()
    partition = divide(config.data, train, config.seed)
    method = build(config, train, partition)
    prompt = in_time(config, train, partition)
    return Job(config, method, train, test, partition=partition, in_time=prompt)


def selected(
    config: RunConfig, train: Dataset, test: Dataset | None
) -> tuple[Dataset, Dataset]:
    """Returns the examples that a run trains and evaluates on.

    Args:
      config: the run: how many examples it takes, and the noise on those for training.
      train: all training examples.
      test: the test split; None if there is none.

    Returns:
      The examples to train on and those to evaluate on.

    Raises:
      ValueError: if there are too few, or those for testing are of another kind.
    """
    data = config.data
    if data.held_out is not None:
        # Before `train_examples`: which images are held out does not depend on it.
        train, test = train.divided(data.held_out)
    if test is None:
        raise InputError(
            "held_out=None: expected some training examples, as the data have no test "
            "split."
        )
    check_alike(train, test)
    train = train.first(data.train_examples, "train_examples")
    if data.feature_noise:
        train = _noisy(config, train)
    return train, test.first(data.test_examples, "test_examples")


def _noisy(config: RunConfig, train: Dataset) -> Dataset:
    """Adds the noise of each client to its training images."""
    data = config.data
    partition = divide(data, train, config.seed)
    seed = config.seed if data.partition_seed is None else data.partition_seed
    # Apart from the draws of the partition.
    rng = np.random.default_rng((NOISE, seed))
    return feature_noise(rng, train, partition, data.feature_noise)


def load_data(config: RunConfig) -> tuple[Dataset, Dataset]:
    """Loads the data set of a run, and selects from it.

    Raises:
      ValueError: if data cannot be loaded, or do not suffice; or if only a program of
        its own can start the run.
    """
    if spec_of(config).build is None:  # before data are looked for
        raise InputError(BROUGHT)
    data = config.data
    source = {"data_dir": data.dir, "image_size": data.image_size}
    train = load(data.name, split="train", **source)
    held_out = data.held_out is not None
    test = None if held_out else load(data.name, split="test", **source)
    return selected(config, train, test)


def prepare(config: RunConfig) -> Job:
    """Loads and partitions the data, and builds model and method.

    Raises:
      ValueError: if a value is out of range, or data cannot be loaded.
    """
    return on_data(config, *load_data(config))
