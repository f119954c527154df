"""Data sets, their partition among clients, and the draw of a cohort."""

from fedjax_sl.data.cohort import (
    draw_clients,
    draw_epochs,
    draw_minibatches,
    normalize,
)
from fedjax_sl.data.partition import (
    Partition,
    dirichlet,
    iid,
    mixed,
    pathological,
    shards,
)
from fedjax_sl.data.skew import label_histogram, label_skew
from fedjax_sl.data.sources import Dataset, load
from fedjax_sl.data.tfds import DataError


__all__ = [
    "DataError",
    "Dataset",
    "Partition",
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
