"""Options of the step by which the server takes the clients' mean update."""

from dataclasses import dataclass
from typing import Any, Literal

from fedjax_sl.checks import check, check_types
from fedjax_sl.config_base import Number, pytree, static


Aggregator = Literal["average", "momentum", "adagrad", "adam", "yogi"]

TITLES = {
    "average": "FedAvg",
    "momentum": "FedAvgM",
    "adagrad": "FedAdagrad",
    "adam": "FedAdam",
    "yogi": "FedYogi",
}

ADAPTIVE = ("adagrad", "adam", "yogi")
"""Kinds that divide each entry by its second moment."""


@pytree
@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """What the server makes of the clients' mean update (FedOpt)."""

    kind: Aggregator = static("average")
    """The mean of the clients' models as it is (FedAvg); or a step along the mean
    update, with momentum (FedAvgM) or by FedAdagrad, FedAdam or FedYogi."""

    learning_rate: Number | None = None
    """eta, of that step, >= 0; if not given, 1 with momentum and 0.01 otherwise."""

    beta1: Number = 0.9
    """beta_1, share of the last first moment that stays, in [0, 1); 0 is without
    momentum, as FedAdagrad was published."""

    beta2: Number = 0.99
    """beta_2, share of the last second moment that stays (adam, yogi), in [0, 1)."""

    tau: Number = 1e-3
    """tau, added to the root of the second moment, which begins at tau^2, > 0."""

    @property
    def active(self) -> bool:
        """Whether the model is other than the mean of the clients' models."""
        return self.kind != "average"

    @property
    def title(self) -> str:
        """The published name of FedAvg with this step."""
        return TITLES[self.kind]

    @property
    def rate(self) -> Any:
        """Eta, as configured or by default."""
        if self.learning_rate is not None:
            return self.learning_rate
        # Steps of the adaptive kinds are about as long as the rate, whatever D is.
        return 1.0 if self.kind == "momentum" else 0.01

    @property
    def idle(self) -> tuple[str, ...]:
        """Options without effect."""
        if not self.active:
            return ("learning_rate", "beta1", "beta2", "tau")
        if self.kind == "momentum":
            return ("beta2", "tau")
        return ("beta2",) if self.kind == "adagrad" else ()

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        check_types(self)
        finite = float("inf")
        check(self, "learning_rate", lambda v: 0 <= v < finite, "a number >= 0")
        for name in ("beta1", "beta2"):
            check(self, name, lambda v: 0 <= v < 1, "a number in [0, 1)")
        check(self, "tau", lambda v: 0 < v < finite, "a number > 0")
