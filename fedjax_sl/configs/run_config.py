"""The configuration of a run: what the command line shows and config.json keeps."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

import numpy as np
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from fedjax_sl import reading
from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.phases import InTurn
from fedjax_sl.checks import check_integer, check_types
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.config_base import MappingName
from fedjax_sl.errors import InputError
from fedjax_sl.federation.faults import Corruption
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.config import usual_keep_probability
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.config import usual_rates
from fedjax_sl.layers.conv import Lowering, Precision
from fedjax_sl.layers.initializers import Init
from fedjax_sl.models.vgg import Depth, Norm


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
class ModelConfig:
    """The network and where it is cut."""

    depth: Depth = 11
    """Layers of the VGG."""

    cut: int = 4
    """L_c, convolutions on the client's side, from 1 to 8, 10, 13 or 16."""

    width: float = 0.25
    """Factor on every number of channels, > 0; 1 is the published network."""

    norm: Norm = "group"
    """Normalisation after each convolution."""

    lowering: Lowering = "auto"
    """How convolutions are computed; auto is what was measured to be fastest."""

    precision: Precision = "float32"
    """Of the products in convolutions; parameters and all else are float32. tf32 and
    bf16 are fast on hardware that has them; a CPU takes float32 for tf32."""

    init: Init = "he"
    """What parameters start from: he is normal, with zero biases; torch is uniform
    within 1 / sqrt(fan-in), biases too, as in PyTorch."""

    def __post_init__(self):
        """Checks types and choices; the network checks the ranges."""
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """The six-convolution network."""

    width: float = 1.0
    """Factor on every number of channels, > 0; 1 is the published network."""

    lowering: Lowering = "auto"
    """How convolutions are computed; auto is what was measured to be fastest."""

    precision: Precision = "float32"
    """Of the products in convolutions; parameters and all else are float32. tf32 and
    bf16 are fast on hardware that has them; a CPU takes float32 for tf32."""

    init: Init = "he"
    """What parameters start from: he is normal, with zero biases; torch is uniform
    within 1 / sqrt(fan-in), biases too, as in PyTorch."""

    def __post_init__(self):
        """Checks types and choices; the network checks the ranges."""
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run of some method on one data set."""

    algorithm: ClassVar[str]

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

    drop_late: bool = False
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
        if self.drop_late and self.channel.deadline_s is None:
            raise InputError("drop_late=True: expected deadline_s of the channel, too.")
        if self.drop_late and self.channel.share != "equal":
            raise InputError(
                f"drop_late=True: expected share='equal', not {self.channel.share!r}."
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
    def in_turn(self) -> InTurn:
        """What clients do one after another rather than at the same time."""
        return "nothing"


@dataclass(frozen=True, kw_only=True)
class FedSLRun(RunConfig):
    """Lightweight federated split learning (FedSL) on one data set.

    A round is one mini-batch step of every client in the cohort.
    """

    algorithm: ClassVar[str] = "fedsl"

    model: ModelConfig = field(default_factory=ModelConfig)
    method: FedSLConfig = field(default_factory=FedSLConfig)
    rounds: int = 220
    batch_size: int = 16
    eval_every: int = 20

    @property
    def title(self) -> str:
        """What the method is called, with these settings."""
        method = self.method
        dropped = np.any(method.prune_ratio) or np.any(method.dropout_rate)
        whole = not (method.coded or dropped)
        if not method.in_turn:
            return "SplitFed v1" if whole else "FedSL"
        relay = method.client_update == "relay"
        name = "split learning (relay)" if relay else "SplitFed v2"
        return name if whole else f"compressed {name}"

    def epochs_per_round(self, examples: int) -> float:
        """Passes over so many training examples, all clients together."""
        return self.cohort_size * self.batch_size / examples

    @property
    def in_turn(self) -> InTurn:
        """What clients do one after another rather than at the same time."""
        if self.method.client_update == "relay":
            return "visits"
        return "exchanges" if self.method.in_turn else "nothing"

    def resolved(self) -> "FedSLRun":
        """With nothing left open: the learning rates, and the end of the ramp."""
        method = self.method
        if method.learning_rate is None:
            client, server = usual_rates(method)
            apart = None if server == client else server
            method = dataclasses.replace(
                method, learning_rate=client, server_learning_rate=apart
            )
        if method.prune_end is None:
            method = dataclasses.replace(method, prune_end=self.rounds // 2)
        return dataclasses.replace(self, method=method)


@dataclass(frozen=True, kw_only=True)
class FedLPQRun(RunConfig):
    """Layer-wise pruned, quantised and coded federated learning (FedLP-Q).

    In a round every client of the cohort trains for its local epochs.
    """

    algorithm: ClassVar[str] = "fedlpq"

    model: CNNConfig = field(default_factory=CNNConfig)
    method: FedLPQConfig = field(default_factory=FedLPQConfig)
    rounds: int = 12
    batch_size: int = 10
    eval_every: int = 2

    @property
    def title(self) -> str:
        """What the method is called, with these settings."""
        if self.method.bits != FLOAT_BITS:
            return "FedLP-Q"
        whole = self.method.preference is None
        return "FedAvg" if whole and self.method.keep_probability == 1 else "FedLP"

    def epochs_per_round(self, examples: int) -> float:
        """Passes over the training examples, on average; it matters not how many."""
        return self.method.local_epochs * self.cohort_size / self.data.num_clients

    def resolved(self) -> "FedLPQRun":
        """With nothing left open: the keep probability is known."""
        keep = usual_keep_probability(self.method)
        method = dataclasses.replace(self.method, keep_probability=keep)
        return dataclasses.replace(self, method=method)


Run = FedSLRun | FedLPQRun

RUNS: dict[str, type[Run]] = {kind.algorithm: kind for kind in (FedSLRun, FedLPQRun)}


def to_json(config: Run) -> str:
    """config.json's text."""
    values = {"algorithm": config.algorithm, **dataclasses.asdict(config)}
    return json.dumps(values, indent=2) + "\n"


def _read(kind: type, values: Any, where: str) -> Any:
    """A configuration of one kind from parsed JSON."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected an object, found {values!r:.40}.")
    hints = get_type_hints(kind)
    if unknown := sorted(set(values) - {f.name for f in dataclasses.fields(kind)}):
        raise InputError(f"{where}: unknown field {unknown[0]!r:.40}.")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in given.items():
        if not _suits(value, hints[name]):
            raise InputError(
                f"{where}: {name}={value!r:.40}: expected {_shown(hints[name])}."
            )
    try:
        return kind(**given)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; numbers are finite, and no more than 2^63."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, bool) and hint is not bool:
            return False
        if isinstance(one, int | float) and not abs(one) < 2**63:
            return False
    try:
        every = CollectionCheckStrategy.ALL_ITEMS
        check_type(value, hint, collection_check_strategy=every)
    except TypeCheckError:
        return False
    return True


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def from_json(path: Path) -> Run:
    """Reads a config.json.

    Raises:
      ValueError: if it is not one, naming the field.
      OSError: if it cannot be read.
    """
    values = reading.read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object, found {values!r:.40}.")
    name = values.pop("algorithm", None)
    if not isinstance(name, str) or name not in RUNS:
        raise InputError(
            f"{path}: algorithm={name!r:.40}: expected one of {tuple(RUNS)}."
        )
    kind = RUNS[name]
    for part in ("data", "channel", "model", "method"):
        if part in values:
            default = kind.__dataclass_fields__[part].default_factory
            values[part] = _read(default, values[part], f"{path}: {part}")  # type: ignore[arg-type]
    return _read(kind, values, str(path))
