"""Checks of data sets and partitions.

Shapes and dtypes are always checked; values only in arrays on the host or on a device,
not in traced arrays.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from fedjax_sl.errors import InputError


def check_examples(image: Any, label: Any, num_classes: int) -> None:
    """Rejects images and labels that do not form a data set.

    Args:
      image: `[n, H, W, Ch]` uint8, or float32 if normalised already.
      label: `[n]` integers in 0..C-1.
      num_classes: C.

    Raises:
      ValueError: naming what is wrong.
    """
    for name, array, rank in (("image", image, 4), ("label", label, 1)):
        # Not `np.asarray`, which fails on a traced array.
        if not hasattr(array, "dtype"):
            kind = type(array).__name__
            raise InputError(f"{name}: expected an array, found a {kind}.")
        if len(array.shape) != rank:
            axes = {4: "[n, H, W, Ch]", 1: "[n]"}[rank]
            raise InputError(f"{name} of shape {array.shape}: expected {axes}.")
    check_image_dtype(image)
    if not np.issubdtype(label.dtype, np.integer):
        raise InputError(f"label of dtype {label.dtype}: expected integers.")
    # An empty set has no largest label, and its accuracy would be 0 / 0.
    if image.shape[0] != label.shape[0] or not label.shape[0]:
        raise InputError(
            f"{image.shape[0]} images and {label.shape[0]} labels: expected as many of "
            "both, at least 1."
        )
    # No compiled program refuses an index out of range: wrong labels would go unseen.
    values = _known(label)
    if values is not None:
        least, most = int(values.min()), int(values.max())
        if not 0 <= least <= most < num_classes:
            wrong = least if least < 0 else most
            raise InputError(
                f"label={wrong}: expected 0 to {num_classes - 1}, one of "
                f"{num_classes} classes."
            )


def check_clients_of(client: Any, num_examples: int) -> None:
    """Rejects owners that are not one integer for each of n examples; None passes.

    Raises:
      ValueError: naming what is wrong.
    """
    if client is None:
        return
    # Traced arrays have both of these, but no values.
    shape, dtype = np.shape(client), getattr(client, "dtype", np.dtype(object))
    if shape != (num_examples,) or not np.issubdtype(dtype, np.integer):
        raise InputError(
            f"client of shape {shape} and dtype {dtype}: expected an integer for each "
            f"of {num_examples} examples."
        )


def check_alike(train: Any, test: Any) -> None:
    """Rejects two splits that one model cannot be trained on and evaluated on.

    Args:
      train: data set to train on.
      test: data set to evaluate on.

    Raises:
      ValueError: if images differ in shape or dtype, or classes in number.
    """
    kinds = [
        f"images of shape {split.image.shape[1:]}, {split.image.dtype}, in "
        f"{split.num_classes} classes"
        for split in (train, test)
    ]
    if kinds[0] != kinds[1]:
        raise InputError(f"test {kinds[1]}: expected {kinds[0]}, as for training.")


def check_image_dtype(image: Any) -> None:
    """Rejects dtypes that do not tell whether images are normalised."""
    if image.dtype not in (np.uint8, np.float32):
        raise InputError(
            f"image of dtype {image.dtype}: expected uint8, or float32 that is "
            "normalised already."
        )


def check_partition(index: Any, count: Any, num_examples: int) -> None:
    """Rejects an invalid partition of n examples.

    Args:
      index: `[N, M]` integers, each client's examples, then -1.
      count: `[N]` integers, number of each client's examples.
      num_examples: n.

    Raises:
      ValueError: naming what is wrong.
    """
    if len(index.shape) != 2 or count.shape != index.shape[:1]:
        raise InputError(
            f"partition of index {index.shape} and count {count.shape}: expected "
            "[N, M] and [N]."
        )
    index, count = _known(index), _known(count)
    if index is None or count is None or not index.size:
        return
    least, most = int(index.min()), int(index.max())
    if least < -1 or most >= num_examples:
        wrong = least if least < -1 else most
        raise InputError(
            f"partition.index={wrong}: expected 0 to {num_examples - 1}, one of "
            f"{num_examples} examples, or -1 for padding."
        )
    # Padding comes last: orders are drawn by column, and a hole would change them.
    owned = np.arange(index.shape[1]) < count[:, None]
    if ((index >= 0) != owned).any() or (count > index.shape[1]).any():
        client = int(((index >= 0).sum(axis=1) != count).argmax())
        raise InputError(
            f"partition.count={count[client]} of client {client}: expected as many "
            "examples in its index, then padding of -1."
        )


def _known(array: Any) -> np.ndarray | None:
    """Returns an array's values; None if it is traced or not fully addressable."""
    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, Tracer) or not isinstance(array, jax.Array):
        return None
    # A process cannot read shards on devices of other processes.
    return np.asarray(array) if array.is_fully_addressable else None
