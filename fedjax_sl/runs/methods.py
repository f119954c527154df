"""From a configuration to the method it names."""

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.configs.run_config import FedLPQRun, FedSLRun, ModelConfig, Run
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.federation.faults import corrupting, failing, patient
from fedjax_sl.federation.memory import device_bytes, mapping_named
from fedjax_sl.fedlpq import fedlpq
from fedjax_sl.fedlpq.memory import client_bytes as fedlpq_bytes
from fedjax_sl.fedlpq.memory import head_bytes
from fedjax_sl.fedsl import fedsl
from fedjax_sl.fedsl.memory import client_bytes as fedsl_bytes
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.models.split import SplitModel
from fedjax_sl.models.vgg import split_vgg


class Built(NamedTuple):
    """A method ready to run.

    Attributes:
      algorithm: the method.
      steps: optimiser steps in a round, of the client with most examples.
      devices: that the clients are spread over.
    """

    algorithm: Algorithm
    steps: int
    devices: int


Mapping = Callable[[int], ClientMap]
"""Bytes of a client -> how clients are mapped."""


def split_model(model: ModelConfig, train: Dataset) -> SplitModel:
    """The network of FedSL, for these images."""
    return split_vgg(
        model.depth,
        cut=model.cut,
        num_classes=train.num_classes,
        width=model.width,
        norm=model.norm,
        input_shape=train.image.shape[1:],
        lowering=model.lowering,
        precision=model.precision,
        init=model.init,
    )


def _fedsl(config: FedSLRun, train: Dataset, mapping: Mapping) -> Built:
    split = split_model(config.model, train)
    over = mapping(fedsl_bytes(split, config.batch_size))
    return Built(fedsl(split, config.method, over_clients=over), 1, over.devices)


def networks(config: FedLPQRun, train: Dataset) -> list[nn.Module]:
    """The five networks of FedLP-Q, of rising complexity, for these images."""
    return [
        cifar_cnn(
            complexity=complexity,
            num_classes=train.num_classes,
            width=config.model.width,
            lowering=config.model.lowering,
            precision=config.model.precision,
            init=config.model.init,
        )
        for complexity in COMPLEXITIES
    ]


def _check_heads(config: FedLPQRun, models: list[nn.Module], shape) -> None:
    """Refuses private heads that no device of this process can keep."""
    method, clients = config.method, config.data.num_clients
    takes, has = head_bytes(models, shape, clients, method.head), device_bytes()
    if takes > has:
        raise InputError(
            f"num_clients={clients} with preference={method.preference!r}: their "
            f"private heads take {takes} bytes of each device's {has}: expected fewer "
            "clients, a narrower network, or head='reset', which keeps none."
        )


def _fedlpq(config: FedLPQRun, train: Dataset, most: int, mapping: Mapping) -> Built:
    method, models = config.method, networks(config, train)
    shape = train.image.shape[1:]
    over = mapping(fedlpq_bytes(models[-1], shape, config.batch_size))
    if method.preference is None:
        models = models[-1:]
    _check_heads(config, models, shape)
    algorithm = fedlpq(
        models,
        method,
        num_clients=config.data.num_clients,
        input_shape=shape,
        over_clients=over,
    )
    steps = method.local_epochs * -(-most // config.batch_size)
    return Built(algorithm, steps, over.devices)


def build(
    config: Run, train: Dataset, partition: Partition, *, one_device: bool = False
) -> Built:
    """The method of a configuration, its clients mapped as configured.

    Args:
      config: the run; the numbers of its method may be traced.
      train: training examples.
      partition: who owns which, `[N, M]`; it may be traced.
      one_device: keep the clients on one device, others being busy with other runs.

    Returns:
      The method.

    Raises:
      ValueError: if model and data do not suit each other.
    """

    def mapping(client_bytes: int) -> ClientMap:
        over = mapping_named(
            config.mapping,
            cohort_size=config.cohort_size,
            client_bytes=client_bytes,
            chunk=config.chunk,
        )
        return over.on_one_device() if one_device else over

    if isinstance(config, FedSLRun):
        built = _fedsl(config, train, mapping)
    else:
        built = _fedlpq(config, train, partition.index.shape[1], mapping)
    return built._replace(algorithm=_with_faults(config, built.algorithm))


def _with_faults(config: Run, algorithm: Algorithm) -> Algorithm:
    """The method with the faults that are asked for."""
    if config.corruption_probability > 0:
        algorithm = corrupting(
            algorithm, config.corruption_probability, config.corruption
        )
    if config.failure_probability > 0:
        algorithm = failing(algorithm, config.failure_probability)
    if config.failure_probability > 0 or config.drop_late:
        algorithm = patient(algorithm)
    return algorithm
