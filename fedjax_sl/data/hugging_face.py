"""Hugging Face's `DatasetDict`, and Flower's partitions of a data set, as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_sl.data.arrays import check_every_class, class_names_of
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.tables import Columns, images_in, labels_in, layout_of


USUAL = Columns()


def from_hugging_face(
    splits: Mapping[str, Any],
    *,
    columns: Columns = USUAL,
    image_size: int | None = None,
    name: str = "hugging face",
) -> dict[str, Dataset]:
    """Converts the splits of a `datasets.DatasetDict`.

    Args:
      splits: `datasets.Dataset` by name, "train" among them.
      columns: where images, labels and owners are.
      image_size: pixels a side to resize to, or None if all have one size.
      name: of the data set.

    Returns:
      A data set for each split, its classes those of the training split.

    Raises:
      ValueError: if there is no training split or no such column, or the columns do
        not form a data set.
    """
    if not isinstance(splits, Mapping) or "train" not in splits:
        found = list(splits) if isinstance(splits, Mapping) else type(splits).__name__
        raise DataError(f"{found}: expected splits by name, 'train' among them.")
    layout = layout_of(splits["train"], columns)
    # Before the loop: splits come in any order, and all have the classes of training.
    label = labels_in([splits["train"]], layout)
    names = layout.class_names or class_names_of(label)
    found = {}
    for split, table in splits.items():
        # Not every split tells owners.
        owner = layout.client if layout.client in table.features else None
        found[split] = Dataset.from_arrays(
            images_in([table], layout, image_size),
            labels_in([table], layout),
            client=None if owner is None else list(table[owner]),
            class_names=names,
            # Again: `images_in` resizes pictures, which may differ in size, but no
            # arrays.
            image_size=image_size,
            name=name,
        )
    check_every_class(found["train"].label, names)
    return found


def from_partitioner(
    partitioner: Any,
    *,
    num_clients: int | None = None,
    columns: Columns = USUAL,
    image_size: int | None = None,
    name: str = "partitioner",
) -> Dataset:
    """Converts the partitions of a partitioner of flwr-datasets.

    Args:
      partitioner: with the table that it partitions as its `dataset`, and with
        `load_partition(i)`, the table of client i.
      num_clients: N; None for its `num_partitions`.
      columns: where images and labels are.
      image_size: pixels a side to resize to, or None if all have one size.
      name: of the data set.

    Returns:
      The examples, client by client, those of partition i with `client` i: the
      partition "natural" gives them to their clients.

    Raises:
      ValueError: if no number of clients is known, there is no such column, or the
        columns do not form a data set.
    """
    if num_clients is None:
        num_clients = getattr(partitioner, "num_partitions", None)
    if num_clients is None:
        raise DataError("num_clients=None: expected the number of partitions.")
    layout = layout_of(partitioner.dataset, columns)
    parts = [partitioner.load_partition(number) for number in range(num_clients)]
    # Clients are numbered by who owns examples: one without any would shift the others.
    if empty := [number for number, part in enumerate(parts) if not len(part)]:
        raise DataError(f"partition {empty[0]} has no examples.")
    label = labels_in(parts, layout)
    return Dataset.from_arrays(
        images_in(parts, layout, image_size),
        label,
        client=np.repeat(np.arange(num_clients), [len(part) for part in parts]),
        class_names=layout.class_names or class_names_of(label),
        image_size=image_size,
        name=name,
    )
