"""From a configuration to everything that a run needs."""

from typing import NamedTuple

import numpy as np

from fedjax_sl.configs.run_config import DataConfig, Run
from fedjax_sl.data import partition as partitions
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset, load
from fedjax_sl.errors import InputError
from fedjax_sl.runs.methods import Built, build
from fedjax_sl.runs.stragglers import in_time


class Job(NamedTuple):
    """A run ready to start, built and checked.

    Attributes:
      config: nothing in it left open.
      method: built.
      train: training examples.
      test: examples to evaluate on.
      partition: who owns which training examples.
      in_time: `[T, N]` bool, who will be done in each round; None if all may take part.
    """

    config: Run
    method: Built
    train: Dataset
    test: Dataset
    partition: Partition
    in_time: np.ndarray | None


def divide(config: DataConfig, labels: np.ndarray, seed: int) -> Partition:
    """Who owns which examples.

    Args:
      config: how they are shared out.
      labels: `[n]`.
      seed: of the run, which stands for that of the partition if there is none.

    Returns:
      A partition.

    Raises:
      ValueError: if a client would have none.
    """
    own = config.partition_seed
    rng = np.random.default_rng(seed if own is None else own)
    options = {
        "shards": {"shards_per_client": config.shards_per_client},
        "dirichlet": {"alpha": config.alpha, "min_size": config.min_size},
        "pathological": {"classes_per_client": config.classes_per_client},
        "mixed": {"major_share": config.major_share},
    }.get(config.partition, {})
    shared = getattr(partitions, config.partition)
    partition = shared(rng, labels, config.num_clients, **options)
    if not partition.count.all():
        raise InputError(f"client {partition.count.argmin()} has no examples.")
    return partition


def on_data(config: Run, train: Dataset, test: Dataset) -> Job:
    """A run on data at hand.

    Args:
      config: the run.
      train: training examples of its data set.
      test: examples to evaluate on.

    Returns:
      The job, nothing in its configuration left open.

    Raises:
      ValueError: if something asked for is out of range.
    """
    config = config.resolved()
    partition = divide(config.data, train.label, config.seed)
    method = build(config, train, partition)
    prompt = in_time(config, train, partition)
    return Job(config, method, train, test, partition, prompt)


def prepare(config: Run) -> Job:
    """Loads the data, divides it, and builds model and method.

    Raises:
      ValueError: if something asked for is out of range or cannot be had.
    """
    data = config.data
    source = {"data_dir": data.dir, "image_size": data.image_size}
    train, test = (load(data.name, split=s, **source) for s in ("train", "test"))
    return on_data(
        config,
        train.first(data.train_examples, "train_examples"),
        test.first(data.test_examples, "test_examples"),
    )
