"""The configuration of a run: options of the command line, and config.json.

A method subclasses `RunConfig` and adds its model and its hyperparameters.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import tyro

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.checks import check_types
from fedjax_sl.config_base import MappingName, StoreName
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation.faults import Corruption


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run of a method on one data set."""

    algorithm: ClassVar[str]
    """Name of the method in config.json."""

    in_title: ClassVar[tuple[str, ...]] = ()
    """Fields of the method that `title` includes, so that tables need no column."""

    before: ClassVar[dict[str, dict[str, Any]]] = {}
    """Parts of a configuration: fields that files of earlier versions lack, and what
    these versions did."""

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
    """Seed of all randomness of the run, except of a partition with its own seed, in
    [0, 2^31)."""

    failure_probability: float = 0.0
    """Client dropout: probability that a client of a cohort does not answer until the
    next cohort is drawn, in [0, 1)."""

    # The alias is the option's name in earlier versions.
    drop_stragglers: Annotated[bool, tyro.conf.arg(aliases=["--drop-late"])] = False
    """Exclude stragglers before a round: clients that would miss the channel's deadline
    with nothing pruned or dropped and the band shared by the whole cohort."""

    corruption_probability: float = 0.0
    """Probability that a client's messages are corrupted until the next cohort is
    drawn, in [0, 1]."""

    corruption: Corruption = "nan"
    """Content of a corrupted message: NaN, infinity, its values a million times too
    large, or with the wrong sign."""

    init_from: str | None = None
    """Folder of a run whose last checkpoint holds the initial models of this one; or a
    .npz file of the whole network's weights, as `fedjax-sl export` writes it."""

    mapping: MappingName = "auto"
    """How clients are mapped: on one device one by one (scan), all at once (vmap) or in
    chunks; on all devices of this process (pmap) or of all processes (mesh; auto)."""

    chunk: int | None = None
    """Clients that a device trains at a time, >= 1; as many as fit if not given. Not
    with scan or vmap, which determine it."""

    residuals: StoreName = "device"
    """Where the residuals (updates.feedback) and control variates of all clients are
    kept: in the memory of each device; or in the host's, so that only those of a cohort
    are on the device."""

    stream_mib: float | None = None
    """Memory for training images on each device, MiB, > 0: a set that takes more is
    streamed, the images of the next rounds while others are computed. The whole set is
    on the device if not given."""

    @property
    def not_private(self) -> str:
        """A sentence on what the noise of `noise_multiplier` does not protect."""
        return ""

    def __post_init__(self):
        """Checks types, choices and the ranges that depend on no data."""
        # Types first: the comparisons below would fail on a text without a sentence.
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
                "drop_stragglers=True: expected a channel.deadline_s, too."
            )
        # Shares by rate depend on the cohort, which is not known before the round.
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
        if self.stream_mib is not None and not 0 < self.stream_mib < math.inf:
            raise InputError(f"stream_mib={self.stream_mib}: expected a number > 0.")
        if self.cohort_size > self.data.num_clients:
            raise InputError(
                f"cohort_size={self.cohort_size}: expected 1 to "
                f"{self.data.num_clients}, the number of clients "
                "(--method.cohort-size, --data.num-clients)."
            )

    @property
    def cohort_size(self) -> int:
        """K, clients in a round."""
        return self.method.cohort_size

    @property
    def sequential(self) -> Sequential:
        """Phases that clients do one after another rather than in parallel."""
        return "nothing"

    @property
    def period(self) -> int:
        """Rounds until the next cohort is drawn."""
        return 1

    @property
    def warmup_rounds(self) -> int:
        """W, rounds over which learning rates rise to their value."""
        # Other packages' methods need not have a warm-up.
        return getattr(self.method, "warmup_rounds", 0)

    @property
    def title(self) -> str:
        """Display name of the method with this configuration."""
        return self.algorithm

    @property
    def network(self) -> str:
        """Display name of the network; empty if that is not known."""
        return ""

    @property
    def on_data(self) -> str:
        """Data set and partition, as titles name them."""
        return f"{self.data.name}, {self.data.partition}"

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields of the method without effect, given the values of the others."""
        return ()

    def epochs_per_round(self, examples: int) -> float:
        """Returns passes over the training examples in a round, over all clients.

        As many as there are where batches are full and nobody is absent. The default is
        for methods whose clients take one mini-batch each.
        """
        return self.cohort_size * self.batch_size / examples

    def trained_on(self, owned: np.ndarray) -> np.ndarray:
        """Returns examples that each client trains on in a round in which it answers.

        Args:
          owned: `[N]` examples of each client.

        Returns:
          `[N]`, repetitions counted and padding not.
        """
        return np.minimum(owned, self.batch_size)

    def resolved(self) -> Self:
        """Returns the configuration with every open value decided."""
        return self
