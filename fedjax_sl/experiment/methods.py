"""From a configuration to the method it names, and how that draws its cohorts."""

from functools import partial
from typing import NamedTuple

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.data.cohort import draw_epochs, draw_minibatches
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.experiment.config import FedLPQRun, FedSLRun, Run
from fedjax_sl.federation import clients
from fedjax_sl.fedlpq import fedlpq
from fedjax_sl.fedsl import fedsl
from fedjax_sl.models.cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.models.vgg import split_vgg
from fedjax_sl.simulation import Draw


class Built(NamedTuple):
    """A method ready to run.

    Attributes:
      algorithm: the method.
      draw: how a round's cohort is drawn.
      steps: optimiser steps in a round, of the client with most examples.
    """

    algorithm: Algorithm
    draw: Draw
    steps: int


def _fedsl(config: FedSLRun, train: Dataset, over: clients.ClientMap) -> Built:
    model = config.model
    split = split_vgg(
        model.depth,
        cut=model.cut,
        num_classes=train.num_classes,
        width=model.width,
        norm=model.norm,
        input_shape=train.image.shape[1:],
        lowering=model.lowering,
    )
    algorithm = fedsl(split, config.method, over_clients=over)
    draw = partial(
        draw_minibatches,
        cohort_size=config.cohort_size,
        batch_size=config.batch_size,
    )
    return Built(algorithm, draw, 1)


def _fedlpq(
    config: FedLPQRun, train: Dataset, partition: Partition, over: clients.ClientMap
) -> Built:
    method = config.method
    models = [
        cifar_cnn(
            complexity=complexity,
            num_classes=train.num_classes,
            width=config.model.width,
            lowering=config.model.lowering,
        )
        for complexity in COMPLEXITIES
    ]
    algorithm = fedlpq(
        models[-1] if method.preference is None else models,
        method,
        num_clients=config.data.num_clients,
        input_shape=train.image.shape[1:],
        over_clients=over,
    )
    draw = partial(
        draw_epochs,
        cohort_size=config.cohort_size,
        batch_size=config.batch_size,
        epochs=method.local_epochs,
    )
    steps = method.local_epochs * -(-int(partition.count.max()) // config.batch_size)
    return Built(algorithm, draw, steps)


def build(config: Run, train: Dataset, partition: Partition) -> Built:
    """The method of a configuration, its clients spread over this machine's devices.

    Raises:
      ValueError: if model and data do not suit each other.
    """
    over = clients.sharded(clients.mesh(config.cohort_size))
    if isinstance(config, FedSLRun):
        return _fedsl(config, train, over)
    return _fedlpq(config, train, partition, over)
