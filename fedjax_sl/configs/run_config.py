"""The configuration of a run: what the command line shows and config.json keeps.

A method's own configuration of a run is a subclass, which adds model and method.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.checks import check_integer, check_types
from fedjax_sl.config_base import MappingName
from fedjax_sl.errors import InputError
from fedjax_sl.federation.faults import Corruption


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and who owns them."""

    name: str = "digits"
    """"digits" (embedded), or any image classification set of TensorFlow Datasets."""

    dir: str | None = None
    """Where TensorFlow Datasets keeps its sets; by default as TFDS_DATA_DIR says."""

    image_size: int = 32
    """Pixels a side that images are resized to, >= 32 for a VGG."""

    train_examples: int | None = None
    """How many of the training images are used, the first ones; all if not given."""

    test_examples: int | None = None
    """The same of the test images."""

    num_clients: int = 10
    """N, clients that share the training examples, >= 1."""

    partition: Literal["iid", "shards", "dirichlet", "pathological", "mixed"] = "iid"
    """How the training examples are shared out."""

    alpha: float = 0.5
    """Concentration of the Dirichlet partition, > 0; smaller is more uneven."""

    min_size: int = 10
    """Examples that each client has at least in the Dirichlet partition, >= 1, which is
    drawn again while one has fewer."""

    shards_per_client: int = 2
    """Shards that each client gets in the partition by shards, >= 1."""

    classes_per_client: int = 2
    """Classes that each client gets in the pathological partition, >= 1."""

    major_share: float = 0.95
    """Share of the examples dealt by label in the mixed partition, in [0, 1]."""

    partition_seed: int | None = None
    """Seed of the partition alone, in [0, 2^31); that of the run if not given."""

    def __post_init__(self):
        """Checks types and choices, and the ranges that no partition checks."""
        check_types(self)
        check_integer("num_clients", self.num_clients, 1)
        check_integer("min_size", self.min_size, 1)
        check_integer("partition_seed", self.partition_seed or 0, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run of some method on one data set."""

    algorithm: ClassVar[str]
    """Its method's name, as config.json has it."""

    in_title: ClassVar[tuple[str, ...]] = ()
    """Fields of the method that `title` stands for, so that tables need no column."""

    not_private: ClassVar[str] = ""
    """A sentence on what the noise of `noise_multiplier` does not protect."""

    data: DataConfig = field(default_factory=DataConfig)
    channel: Channel = field(default_factory=Channel)
    method: Any

    rounds: int
    """T, >= 1."""

    batch_size: int
    """B, examples in a client's mini-batch, >= 1."""

    eval_every: int
    """Rounds between two evaluations on the test split, >= 1."""

    seed: int = 0
    """The run's only source of randomness, unless the partition has a seed of its own,
    in [0, 2^31)."""

    failure_probability: float = 0.0
    """Probability that a client that is drawn fails to answer, until clients are drawn
    anew, in [0, 1)."""

    drop_stragglers: Annotated[bool, tyro.conf.arg(aliases=["--drop-late"])] = False
    """Leave out of a round who might miss the channel's deadline: whoever would, with
    nothing pruned or dropped, and the band shared by the whole cohort."""

    corruption_probability: float = 0.0
    """Probability that what a client sends is corrupted, until clients are drawn anew,
    in [0, 1]."""

    corruption: Corruption = "nan"
    """What it is then: not a number, infinite, a million times too large, or of the
    wrong sign."""

    init_from: str | None = None
    """Folder of a run whose models, as last kept, this one starts from."""

    mapping: MappingName = "auto"
    """How clients are mapped: one by one (scan), all at once (vmap) or in chunks on one
    device; on all devices of this process (pmap) or of all (mesh, which auto takes)."""

    chunk: int | None = None
    """Clients that a device has at a time, >= 1; as many as fit if not given.
    Not with scan or vmap, which say how many."""

    def __post_init__(self):
        """Checks types and choices, and the ranges that need nothing else."""
        check_types(self)
        for name in ("rounds", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: expected at least 1.")
        if not 0 <= self.failure_probability < 1:
            raise InputError(
                f"failure_probability={self.failure_probability}: expected a number in "
                "[0, 1)."
            )
        if self.drop_stragglers and self.channel.deadline_s is None:
            raise InputError(
                "drop_stragglers=True: expected deadline_s of the channel, too."
            )
        if self.drop_stragglers and self.channel.share != "equal":
            raise InputError(
                "drop_stragglers=True: expected share='equal', not "
                f"{self.channel.share!r}."
            )
        if not 0 <= self.corruption_probability <= 1:
            raise InputError(
                f"corruption_probability={self.corruption_probability}: expected a "
                "number in [0, 1]."
            )
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed={self.seed}: expected 0 to {2**31 - 1}.")
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"chunk={self.chunk}: expected at least 1 client.")
        if self.chunk is not None and self.mapping in ("scan", "vmap"):
            raise InputError(
                f"chunk={self.chunk}: expected none with mapping={self.mapping!r}."
            )
        if self.cohort_size > self.data.num_clients:
            raise InputError(
                f"cohort_size={self.cohort_size}: expected 1 to "
                f"{self.data.num_clients}, the number of clients."
            )

    @property
    def cohort_size(self) -> int:
        """K, clients in a round."""
        return self.method.cohort_size

    @property
    def sequential(self) -> Sequential:
        """What clients do one after another rather than at the same time."""
        return "nothing"

    @property
    def period(self) -> int:
        """Rounds that a cohort stays together."""
        return 1

    @property
    def title(self) -> str:
        """What the method is called, with these settings."""
        return self.algorithm

    @property
    def on_data(self) -> str:
        """Data set and partition, as titles name them."""
        return f"{self.data.name}, {self.data.partition}"

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields of the method that change nothing, as the others are."""
        return ()

    def epochs_per_round(self, examples: int) -> float:
        """Passes over so many training examples, all clients together.

        That of a method whose clients take one mini-batch each; others say their own.
        """
        return self.cohort_size * self.batch_size / examples

    def resolved(self) -> Self:
        """With nothing left open that a run decides."""
        return self
