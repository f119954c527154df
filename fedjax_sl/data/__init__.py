"""Data sets, their partition among clients, and the draw of a cohort."""

from fedjax_sl.data.cohort import (
    draw_clients,
    draw_epochs,
    draw_minibatches,
    normalize,
)
from fedjax_sl.data.partition import Partition, Partitioner
from fedjax_sl.data.partitions import PARTITIONS
from fedjax_sl.data.partitions.dirichlet import dirichlet
from fedjax_sl.data.partitions.iid import iid
from fedjax_sl.data.partitions.pathological import pathological
from fedjax_sl.data.partitions.shards import mixed, shards
from fedjax_sl.data.skew import label_histogram, label_skew
from fedjax_sl.data.sources import Dataset, load
from fedjax_sl.data.tfds import DataError


__all__ = [
    "DataError",
    "Dataset",
    "PARTITIONS",
    "Partition",
    "Partitioner",
    "dirichlet",
    "draw_clients",
    "draw_epochs",
    "draw_minibatches",
    "iid",
    "label_histogram",
    "label_skew",
    "load",
    "mixed",
    "normalize",
    "pathological",
    "shards",
]
