"""Builds everything that a run needs from its configuration."""

from typing import NamedTuple

import numpy as np

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset, load
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


def divide(config: DataConfig, labels: np.ndarray, seed: int) -> Partition:
    """Partitions examples among clients.

    Args:
      config: kind of the partition, and its parameters.
      labels: labels of the n examples, `[n]`.
      seed: the run's seed, used if the partition has none of its own.

    Returns:
      A partition.

    Raises:
      ValueError: if a client would own no example.
    """
    own = config.partition_seed
    # NumPy on the host: the sizes that are drawn become shapes.
    rng = np.random.default_rng(seed if own is None else own)
    partition = config.partitioner()(rng, labels, config.num_clients)
    # Further on a count of 0 marks padding, see `Cohort`.
    if not partition.count.all():
        raise InputError(f"client {partition.count.argmin()} has no examples.")
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
    assert make is not None  # or else `prepare` has refused
    built = make(config, train, partition, choose_map)
    return built._replace(algorithm=with_faults(config, built.algorithm))


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
    partition = divide(config.data, train.label, config.seed)
    method = build(config, train, partition)
    prompt = in_time(config, train, partition)
    return Job(config, method, train, test, partition=partition, in_time=prompt)


def prepare(config: RunConfig) -> Job:
    """Loads and partitions the data, and builds model and method.

    Raises:
      ValueError: if a value is out of range, or data cannot be loaded.
    """
    if spec_of(config).build is None:  # before data are looked for
        raise InputError(BROUGHT)
    data = config.data
    source = {"data_dir": data.dir, "image_size": data.image_size}
    train = load(data.name, split="train", **source)
    if data.held_out is None:
        test = load(data.name, split="test", **source)
    else:
        # Before `train_examples`: which images are held out does not depend on it.
        train, test = train.divided(data.held_out)
    return on_data(
        config,
        train.first(data.train_examples, "train_examples"),
        test.first(data.test_examples, "test_examples"),
    )
