"""Data sets, their partition among clients, and the draw of a cohort."""

from fedjax_sl.data.cohort import draw_epochs, draw_minibatches, normalize
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.hugging_face import from_hugging_face, from_partitioner
from fedjax_sl.data.noise import feature_noise
from fedjax_sl.data.partition import Partition, Partitioner
from fedjax_sl.data.partitions import PARTITIONS
from fedjax_sl.data.partitions.dirichlet import dirichlet
from fedjax_sl.data.partitions.iid import iid
from fedjax_sl.data.partitions.natural import natural
from fedjax_sl.data.partitions.pathological import pathological
from fedjax_sl.data.partitions.quantity import quantity
from fedjax_sl.data.partitions.shards import mixed, shards
from fedjax_sl.data.partitions.sizes import sizes
from fedjax_sl.data.selection import draw_clients
from fedjax_sl.data.skew import label_histogram, label_skew
from fedjax_sl.data.sources import SOURCES, load
from fedjax_sl.data.tables import Columns


__all__ = [
    "Columns",
    "DataError",
    "Dataset",
    "PARTITIONS",
    "Partition",
    "Partitioner",
    "SOURCES",
    "dirichlet",
    "draw_clients",
    "draw_epochs",
    "draw_minibatches",
    "feature_noise",
    "from_hugging_face",
    "from_partitioner",
    "iid",
    "label_histogram",
    "label_skew",
    "load",
    "mixed",
    "natural",
    "normalize",
    "pathological",
    "quantity",
    "shards",
    "sizes",
]
