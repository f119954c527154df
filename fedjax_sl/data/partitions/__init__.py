"""The kinds of partition, one file each, and their registry.

Names and defaults follow flwr-datasets if it has them.
"""

from typing import Any, Literal

from fedjax_sl.data.partition import Partitioner
from fedjax_sl.data.partitions.dirichlet import Dirichlet
from fedjax_sl.data.partitions.iid import IID
from fedjax_sl.data.partitions.pathological import Pathological
from fedjax_sl.data.partitions.shards import Mixed, Shards


PARTITIONS: dict[str, type[Partitioner]] = {
    "iid": IID,
    "shards": Shards,
    "dirichlet": Dirichlet,
    "pathological": Pathological,
    "mixed": Mixed,
}
"""Every kind by the name that a configuration gives it."""


def partition_names() -> Any:
    """Returns the names in the registry now, as the `Literal` of a choice."""
    return Literal[tuple(PARTITIONS)]
