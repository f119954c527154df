"""The data set of a run, and its partition among clients: options and config.json."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from fedjax_sl.checks import check, check_choice, check_integer, check_types
from fedjax_sl.data.partition import Partitioner
from fedjax_sl.data.partitions import partition_names, partitions


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data set, and its partition among clients."""

    name: str = "digits"
    """"digits" (embedded); data of your own as npz:FILE, folder:DIR, idx:DIR or hf:DIR;
    or any image classification set of TensorFlow Datasets."""

    dir: str | None = None
    """Data folder of TensorFlow Datasets; by default that of TFDS_DATA_DIR."""

    image_size: int = 32
    """Width and height in pixels that images are resized to, >= 32 for a VGG."""

    train_examples: int | None = None
    """Use the first n training images, or the same share of each class if they are in
    order of class or owner; all if not given."""

    test_examples: int | None = None
    """Use the first n test images, or the same share of each class if they are in order
    of class; all if not given."""

    held_out: int | None = None
    """Evaluate on the last so many training images (the same share of each class if
    they are in order of class or owner), which are then not trained on, rather than on
    the test split, which is for the final result; not if not given."""

    num_clients: int = 10
    """N, clients that own the training examples, >= 1."""

    # Looked up when asked for: a program may add kinds of its own.
    partition: Annotated[str, tyro.conf.arg(constructor_factory=partition_names)] = (
        "iid"
    )
    """How the training examples are partitioned among clients."""

    alpha: float = 0.5
    """Concentration of the Dirichlet partition and that by quantity, > 0; smaller is
    more uneven."""

    min_size: int = 10
    """Least examples of a client in the Dirichlet partition and that by quantity, >= 1;
    they are drawn again while a client has fewer."""

    self_balancing: bool = False
    """In the Dirichlet partition, class after class, leave out clients that already own
    an equal part of all examples, as NIID-Bench's code does."""

    shards_per_client: int = 2
    """Shards of each client in the partition by shards, >= 1."""

    classes_per_client: int = 2
    """Classes of each client in the pathological partition, >= 1."""

    major_share: float = 0.95
    """Share of the examples that the mixed partition assigns by label, in [0, 1]."""

    sizes: tuple[int, ...] = ()
    """Examples of each client in the partition by sizes, >= 1, all training examples in
    total."""

    feature_noise: float = 0.0
    """Variance of Gaussian noise on the pixels (in [0, 1]) of the last of N clients, >=
    0; client i of 1 to N gets i / N of it."""

    partition_seed: int | None = None
    """Seed of the partition, in [0, 2^31); the run's seed if not given."""

    def __post_init__(self):
        """Checks types and choices; a partition checks its own ranges."""
        check_types(self)
        check_choice("partition", self.partition, partition_names())
        check_integer("num_clients", self.num_clients, 1)
        check_integer("min_size", self.min_size, 1)
        finite = float("inf")
        check(self, "feature_noise", lambda v: 0 <= v < finite, "a number >= 0")
        # None is valid, and so is 0.
        check_integer("partition_seed", self.partition_seed or 0, 0, 2**31 - 1)
        # Options out of range are refused here, before data are loaded.
        for name, kind in partitions().items():
            # Those of the others, too: a typing error is one, if without effect. But
            # another package's kind may have options that have no field here.
            if name == self.partition or all(hasattr(self, n) for n in kind.options):
                self._partitioner(name)

    def partitioner(self) -> Partitioner:
        """Returns the partition, with the options that it has here.

        Raises:
          ValueError: if an option is out of range.
        """
        return self._partitioner(self.partition)

    def _partitioner(self, name: str) -> Partitioner:
        kind = partitions()[name]
        return kind(**{name: getattr(self, name) for name in kind.options})

    @property
    def accuracy(self) -> str:
        """What an accuracy is of, in words."""
        return "test accuracy" if self.held_out is None else "held-out accuracy"

    @property
    def idle(self) -> tuple[str, ...]:
        """Options of other kinds of partition, which have no effect."""
        own = partitions()[self.partition].options
        every = dict.fromkeys(n for kind in partitions().values() for n in kind.options)
        return tuple(name for name in every if name not in own)
