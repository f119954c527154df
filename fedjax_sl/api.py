"""The names that a library user needs; `fedjax_sl` has all of them."""

from fedjax_sl.algorithm import Algorithm, Batch, Cohort, Link, RoundMetrics
from fedjax_sl.batches import Batches
from fedjax_sl.data import Dataset, Partition, load
from fedjax_sl.fedlpq import FedLPQConfig, fedavg, fedlp, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models import SplitModel, cifar_cnn, split_vgg
from fedjax_sl.simulation import simulate
from fedjax_sl.sweep import sweep


__all__ = [
    "Algorithm",
    "Batch",
    "Batches",
    "Cohort",
    "Dataset",
    "FedLPQConfig",
    "FedSLConfig",
    "Link",
    "Partition",
    "RoundMetrics",
    "SplitModel",
    "cifar_cnn",
    "fedavg",
    "fedlp",
    "fedlpq",
    "fedsl",
    "load",
    "simulate",
    "split_vgg",
    "sweep",
]
