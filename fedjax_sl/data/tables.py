"""Reads images and labels out of tables of Hugging Face's `datasets`.

Only what these objects can do is used: the package itself is not imported.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.data.arrays import as_images
from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.pictures import in_own_colours, stacked


class Columns(NamedTuple):
    """Names of a table's columns.

    Attributes:
      image: pictures or arrays; None for "image", or else the only column of pictures.
      label: integers; None for "label", or else the only column of class labels.
      client: natural owners; None for "client" if there is one.
    """

    image: str | None = None
    label: str | None = None
    client: str | None = None


class Layout(NamedTuple):
    """The columns that a table has, as `layout_of` finds them.

    Attributes:
      image: name of the column of images.
      label: name of the column of labels.
      client: name of the column of natural owners, or None.
      dtype: of images that are arrays; None if it is not told.
      class_names: C names; none if the column of labels has no names.
    """

    image: str
    label: str
    client: str | None
    dtype: np.dtype | None
    class_names: tuple[str, ...]


def layout_of(table: Any, columns: Columns) -> Layout:
    """Finds the columns of a table.

    Args:
      table: a `datasets.Dataset`, or anything with `features` and columns by name.
      columns: names, as far as they are given.

    Returns:
      Where everything is.

    Raises:
      DataError: if there is no such column; it lists those that there are.
    """
    image = _column(table, columns.image, "image", "Image")
    label = _column(table, columns.label, "label", "ClassLabel")
    owner = columns.client or ("client" if "client" in table.features else None)
    return Layout(
        image=image,
        label=label,
        client=owner and _column(table, owner, owner, ""),
        dtype=_dtype(table.features[image]),
        class_names=tuple(getattr(table.features[label], "names", None) or ()),
    )


def _column(table: Any, given: str | None, usual: str, kind: str) -> str:
    """Returns the name of a column: as given, the usual one, or the only one."""
    # By the names of classes, as the package that has them is not imported.
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    if given is None and usual not in kinds:
        of_kind = [name for name, its in kinds.items() if its == kind]
        # Of two candidates neither: a guess might train on the wrong column.
        given = of_kind[0] if len(of_kind) == 1 else None
    name = given or usual
    if name not in kinds:
        raise DataError(
            f"it has the columns {kinds}: expected {name!r}"
            + (f", or one {kind} column." if kind else ".")
        )
    return name


def _dtype(feature: Any) -> np.dtype | None:
    """Returns the dtype of the numbers in a column, whose rows are lists of them."""
    while hasattr(feature, "feature"):  # a list of lists
        feature = feature.feature
    named = getattr(feature, "dtype", None)
    try:
        return None if named is None else np.dtype(named)
    except TypeError:  # that of a picture is the name of a class
        return None


def labels_in(tables: Sequence[Any], layout: Layout) -> np.ndarray:
    """Reads the labels of tables, one after another."""
    rows = [label for table in tables for label in table[layout.label]]
    try:
        return np.array(rows)
    except ValueError as error:  # of lists of unequal lengths
        raise DataError(f"{layout.label} holds no labels: {error}.") from error


def images_in(
    tables: Sequence[Any], layout: Layout, image_size: int | None
) -> np.ndarray:
    """Reads the images of tables, one after another.

    Args:
      tables: of one layout.
      layout: its columns.
      image_size: pixels a side to resize pictures to; arrays keep their size.

    Returns:
      `[n, H, W, Ch]`.

    Raises:
      ValueError: if there are none, sizes differ, or they are no images.
    """
    # Late: it takes a quarter of a second.
    from PIL import Image

    rows = [image for table in tables for image in table[layout.image]]
    if not rows:
        raise DataError("it has no examples.")
    if all(isinstance(row, Image.Image) for row in rows):
        return stacked([in_own_colours(picture, image_size) for picture in rows])
    try:
        # With the column's dtype: lists of integers would become int64, which is
        # refused.
        return as_images(np.array(rows, layout.dtype))
    except (TypeError, ValueError) as error:  # rows without a value, or unlike others
        raise DataError(f"{layout.image} holds no images: {error}.") from error
