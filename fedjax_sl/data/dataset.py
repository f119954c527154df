"""A data set in memory: images with one label each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedjax_sl.checks import check_integer, check_types
from fedjax_sl.config_base import pytree
from fedjax_sl.data.arrays import as_clients, as_images, class_names_of
from fedjax_sl.data.checks import check_clients_of, check_examples
from fedjax_sl.data.resize import resized


@pytree
@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with one label each; the arrays are leaves, the names are static.

    Attributes:
      image: `[n, H, W, Ch]` uint8; or float32, which must be normalised already.
      label: `[n]` integers in 0..C-1, int32 once on a device.
      client: `[n]` integers, the natural owner of each example; None if there is none.
      name: of the data set.
      class_names: C names.
    """

    image: Any
    label: Any
    client: Any = None
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})

    def __post_init__(self):
        """Checks shapes and dtypes, and labels that are not traced."""
        check_types(self)
        check_examples(self.image, self.label, self.num_classes)
        check_clients_of(self.client, len(self.label))

    @classmethod
    def from_arrays(
        cls,
        image: Any,
        label: Any,
        *,
        client: Any = None,
        class_names: Sequence[str] | None = None,
        image_size: int | None = None,
        name: str = "arrays",
    ) -> "Dataset":
        """Builds a data set from one split's arrays.

        Args:
          image: `[n, H, W, Ch]`, or `[n, H, W]` in grey: uint8; or floats, which must
            be normalised already.
          label: `[n]` in 0..C-1, of any integer dtype.
          client: `[n]` integers or texts, the natural owner of each example; the k-th
            of them in ascending order becomes client k. None if there is none.
          class_names: C names. None for training labels, which then number their
            classes; a test split takes those of its training split.
          image_size: pixels a side to resize to (bilinear); None keeps the size.
          name: of the data set.

        Returns:
          The data set, its arrays on the host.

        Raises:
          ValueError: if the arrays have other ranks, dtypes or lengths than these, a
            pixel is not finite, a label is out of range; or a class has no example
            where labels number them.
        """
        image, label = as_images(image), np.asarray(label)
        names = class_names_of(label) if class_names is None else tuple(class_names)
        # Before labels are int32, which not all integers are.
        check_examples(image, label, len(names))
        return cls(
            image=image if image_size is None else resized(image, image_size),
            label=label.astype(np.int32),
            client=None if client is None else as_clients(client),
            name=name,
            class_names=names,
        )

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def first(self, count: int | None, name: str = "count") -> "Dataset":
        """Returns the first `count` examples.

        Of data in order of class or owner, the same share of each class, drawn once and
        for all.

        Args:
          count: from 1 to n; None for all.
          name: of the number, in an error message.

        Returns:
          The subset.

        Raises:
          ValueError: if there are fewer examples.
        """
        if count is None:
            return self
        check_integer(name, count, 1, len(self.label))
        return self._rows(self._stratified(count) if self._in_order else slice(count))

    def divided(self, held_out: int) -> tuple["Dataset", "Dataset"]:
        """Sets the last `held_out` examples apart.

        Of data in order of class or owner, the same share of each class, drawn once and
        for all.

        Args:
          held_out: from 1 to n - 1.

        Returns:
          The other examples, and these.

        Raises:
          ValueError: if there are no others.
        """
        check_integer("held_out", held_out, 1, len(self.label) - 1)
        # None by the run's seed: runs with any seed hold out the same images.
        if self._in_order:
            apart = self._stratified(held_out)
            rest = np.setdiff1d(np.arange(len(self.label)), apart)
            return self._rows(rest), self._rows(apart)
        return self._rows(slice(-held_out)), self._rows(slice(-held_out, None))

    @property
    def _in_order(self) -> bool:
        """Whether examples of a class, or of an owner, follow one another.

        The last of them would all be of the last classes.
        """
        columns = (self.label, self.client)
        return any(_grouped(np.asarray(x)) for x in columns if x is not None)

    def _stratified(self, count: int) -> np.ndarray:
        """Returns the rows of `count` examples, as many of each class as its share."""
        size, label = len(self.label), np.asarray(self.label)
        # At random within a class: rows that are evenly spaced in a file may all be of
        # one owner, or of one class of every owner.
        mixed = np.random.default_rng(0).permutation(size)
        by_class = mixed[np.argsort(label[mixed], kind="stable")]
        return np.sort(by_class[np.arange(count) * size // count])

    def _rows(self, rows: slice | np.ndarray) -> "Dataset":
        """Returns the examples of these rows."""
        # Slices are views: of a file that is mapped, nothing is read yet.
        return replace(
            self,
            image=self.image[rows],
            label=self.label[rows],
            client=None if self.client is None else self.client[rows],
        )


def _grouped(column: np.ndarray) -> bool:
    """Whether equal values, of which there are some, are side by side."""
    kinds, blocks = len(np.unique(column)), np.count_nonzero(np.diff(column)) + 1
    return 1 < kinds == blocks < len(column)
