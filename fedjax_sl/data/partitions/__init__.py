"""The kinds of partition, one file each, and their registry.

Names and defaults follow flwr-datasets if it has them.
"""

from functools import cache
from typing import Any, Literal

from fedjax_sl.data.partition import Partitioner
from fedjax_sl.data.partitions.dirichlet import Dirichlet
from fedjax_sl.data.partitions.iid import IID
from fedjax_sl.data.partitions.natural import Natural
from fedjax_sl.data.partitions.pathological import Pathological
from fedjax_sl.data.partitions.quantity import Quantity
from fedjax_sl.data.partitions.shards import Mixed, Shards
from fedjax_sl.data.partitions.sizes import Sizes
from fedjax_sl.entry_points import installed


PARTITIONS: dict[str, type[Partitioner]] = {
    "iid": IID,
    "shards": Shards,
    "dirichlet": Dirichlet,
    "pathological": Pathological,
    "mixed": Mixed,
    "quantity": Quantity,
    "sizes": Sizes,
    "natural": Natural,
}
"""Every kind by the name that a configuration gives it; a program may add its own."""

ENTRY_POINTS = "fedjax_sl.partitions"


@cache
def _installed() -> dict[str, type[Partitioner]]:
    """Loads the kinds of other installed packages, by the names of entry points.

    Raises:
      ValueError: if one cannot be loaded, or has the name of another.
    """
    return installed(ENTRY_POINTS, "partition", PARTITIONS)


def partitions() -> dict[str, type[Partitioner]]:
    """Returns every kind by name, those of other packages last."""
    return PARTITIONS | _installed()


def partition_names() -> Any:
    """Returns the names in the registry now, as the `Literal` of a choice."""
    return Literal[tuple(partitions())]
