"""The configuration of a run of FedLP-Q."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from fedjax_sl.configs.network_config import NetworkConfig
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.config import FedLPQConfig, usual_keep_probability
from fedjax_sl.models.registry import Name


CODED = ("code", "rounding")


@dataclass(frozen=True, kw_only=True)
class CNNConfig(NetworkConfig):
    """The network."""

    name: Literal["fedlp-cnn", Name] = "fedlp-cnn"
    """Six convolutions, the published network, which alone has sub-models; a VGG, a
    ResNet, a vision transformer for 32 x 32 pixels, the simple CNN of NIID-Bench, or a
    perceptron of two hidden layers."""

    @property
    def title(self) -> str:
        """Display name, with a width other than 1."""
        title = self.title_of(self.name)
        return title.replace("fedlp-cnn", "FedLP's CNN")

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields without effect in this configuration."""
        if self.name == "fedlp-cnn" and self.module is None:
            return ("norm",)
        return self.ignored(self.name)


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

    def __post_init__(self):
        """Checks what every run's configuration does, and what controls allow."""
        super().__post_init__()
        if self.method.control_variates and self.corruption_probability:
            raise InputError(
                f"corruption_probability={self.corruption_probability}: expected 0 "
                "with control_variates, which client and server would compute from "
                "different messages."
            )

    @property
    def title(self) -> str:
        """Display name of the method in this configuration."""
        method = self.method
        keep = usual_keep_probability(method)
        # Of several classes of devices, one that prunes or quantises is enough.
        whole = method.preference is None and np.min(keep) == 1
        compressed = method.updates.active or method.models.active
        if method.coded and not compressed and not whole:
            return "FedLP-Q"
        averaged = method.aggregator.title
        if method.proximal is not None and not method.aggregator.active:
            averaged = "FedProx"
        name = averaged if whole else "FedLP"
        if method.control_variates:
            name = "SCAFFOLD" if name == "FedAvg" else f"{name}, control variates"
        return f"compressed {name}" if compressed or method.coded else name

    @property
    def network(self) -> str:
        """Display name of the network, with its width."""
        return self.model.title

    def epochs_per_round(self, examples: int) -> float:
        """Average passes over the training examples, whatever their number."""
        # Clients are drawn uniformly: on average K / N of all examples are in a cohort.
        return self.method.local_epochs * self.cohort_size / self.data.num_clients

    def trained_on(self, owned: np.ndarray) -> np.ndarray:
        """All of its examples in every local epoch."""
        return self.method.local_epochs * owned

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields of the method without effect in this configuration."""
        method = self.method
        return (
            *(("momentum",) if method.optimizer == "adam" else ()),
            *(() if method.preference else ("head",)),
            *(("bits",) if method.updates.active else ()),
            *(() if method.coded and not method.updates.active else CODED),
            *(f"updates.{name}" for name in method.updates.idle),
            *(f"levels.{name}" for name in method.levels.idle),
            *(("updates.bits",) if method.levels.of_time else ()),
            *(f"models.{name}" for name in method.models.idle),
            *(f"aggregator.{name}" for name in method.aggregator.idle),
        )

    def resolved(self) -> "FedLPQRun":
        """Fills in the default of the keep probability."""
        keep = usual_keep_probability(self.method)
        method = dataclasses.replace(self.method, keep_probability=keep)
        return dataclasses.replace(self, method=method, model=self.model.resolved())
