"""The configuration of a run: what the command line shows and config.json keeps."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.models.conv import Lowering
from fedjax_sl.models.vgg import Norm


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and who owns them."""

    name: str = "digits"
    """"digits" (embedded), or any image classification set of TensorFlow Datasets."""

    dir: str | None = None
    """Where TensorFlow Datasets keeps its sets; by default as TFDS_DATA_DIR says."""

    image_size: int = 32
    """Pixels a side that images are resized to, >= 32 for a VGG."""

    num_clients: int = 10
    """N, clients that share the training examples, >= 1."""

    partition: Literal["iid", "shards", "dirichlet", "pathological", "mixed"] = "iid"
    """How the training examples are shared out."""

    alpha: float = 0.5
    """Concentration of the Dirichlet partition, > 0; smaller is more uneven."""

    shards_per_client: int = 2
    """Shards that each client gets in the partition by shards, >= 1."""

    classes_per_client: int = 2
    """Classes that each client gets in the pathological partition, >= 1."""

    major_share: float = 0.95
    """Share of the examples dealt by label in the mixed partition, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network and where it is cut."""

    depth: Literal[11, 13, 16, 19] = 11
    """Layers of the VGG."""

    cut: int = 4
    """L_c, convolutions on the client's side, from 1 to 8, 10, 13 or 16."""

    width: float = 0.25
    """Factor on every number of channels, > 0; 1 is the published network."""

    norm: Norm = "group"
    """Normalisation after each convolution."""

    lowering: Lowering = "auto"
    """How convolutions are computed; auto is what was measured to be fastest."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Lightweight federated split learning (FedSL) on one data set."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: FedSLConfig = field(default_factory=FedSLConfig)

    rounds: int = 220
    """T, one mini-batch step of every client each, >= 1."""

    batch_size: int = 16
    """B, examples of each client in a round, >= 1."""

    eval_every: int = 20
    """Rounds between two evaluations on the test split, >= 1."""

    seed: int = 0
    """The run's only source of randomness."""

    def __post_init__(self):
        """Checks the ranges that need nothing else to be known."""
        for name in ("rounds", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1.")
        if self.method.cohort_size > self.data.num_clients:
            raise ValueError(
                f"cohort_size={self.method.cohort_size}: expected 1 to "
                f"{self.data.num_clients}, the number of clients."
            )


def resolved(config: RunConfig) -> RunConfig:
    """The configuration with nothing left open: the ramp of the ratio has its end."""
    if config.method.prune_end is not None:
        return config
    method = dataclasses.replace(config.method, prune_end=config.rounds // 2)
    return dataclasses.replace(config, method=method)


def to_json(config: RunConfig) -> str:
    """config.json's text."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def _read(kind: type, values: Any, where: str) -> Any:
    """A configuration of one kind from parsed JSON."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object, found {values!r}.")
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}.")
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**lists)


def from_json(path: Path) -> RunConfig:
    """Reads a config.json.

    Raises:
      ValueError: if it is not one, naming the field.
      OSError: if it cannot be read.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object, found {values!r}.")
    parts = {"data": DataConfig, "model": ModelConfig, "method": FedSLConfig}
    for name, kind in parts.items():
        if name in values:
            values[name] = _read(kind, values[name], f"{path}: {name}")
    return _read(RunConfig, values, str(path))
