"""Federated split learning and layer-wise compression as compiled JAX programs."""

from fedjax_sl.algorithm import Algorithm, Batch, Cohort, Link, RoundMetrics
from fedjax_sl.data import Dataset, Partition, load
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models import SplitModel, split_vgg
from fedjax_sl.simulation import simulate


__all__ = [
    "Algorithm",
    "Batch",
    "Cohort",
    "Dataset",
    "FedSLConfig",
    "Link",
    "Partition",
    "RoundMetrics",
    "SplitModel",
    "fedsl",
    "load",
    "simulate",
    "split_vgg",
]
