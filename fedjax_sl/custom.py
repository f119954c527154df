"""Runs of algorithms that a program brings: their configuration, as far as it is known.

The command line compares and reports them; only the program that knows the algorithm
starts and resumes them (`runs.custom`).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.checks import check_integer, check_types
from fedjax_sl.config_base import pytree, static
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.method_spec import MethodSpec


Parameter = bool | int | float | str | None


@pytree
@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """An algorithm as the program that brings it describes it."""

    name: str = static("custom")
    """Its name in tables and figures."""

    cohort_size: int = static(1)
    """K, clients that participate in a round."""

    steps: int = static(1)
    """Optimiser steps of a client in a round, of the one with most examples."""

    sequential: Sequential = static("nothing")
    """The phases that clients do one after another rather than in parallel."""

    # A dict has no hash: this configuration cannot be an argument of a jitted function.
    parameters: dict[str, Parameter] = field(
        default_factory=dict, metadata={"static": True}
    )
    """Its settings, by name, so that runs are told apart by them."""

    def __post_init__(self):
        """Checks types and steps; the run checks the range of the cohort."""
        check_types(self)
        check_integer("steps", self.steps, 1)


@dataclass(frozen=True, kw_only=True)
class CustomRun(RunConfig):
    """A run of an algorithm that a program brings."""

    algorithm: ClassVar[str] = "custom"
    in_title: ClassVar[tuple[str, ...]] = ("name",)

    method: CustomConfig = field(default_factory=CustomConfig)
    rounds: int = 1
    batch_size: int = 1
    eval_every: int = 1

    @property
    def title(self) -> str:
        """The algorithm's name."""
        return self.method.name

    @property
    def sequential(self) -> Sequential:
        """The phases that clients do one after another rather than in parallel."""
        return self.method.sequential

    def epochs_per_round(self, examples: int) -> float:
        """Passes over so many training examples, if all batches are full."""
        return self.method.steps * super().epochs_per_round(examples)

    def trained_on(self, owned: np.ndarray) -> np.ndarray:
        """A mini-batch in each step, of a client that takes as many as any."""
        return self.method.steps * super().trained_on(owned)

    @property
    def on_data(self) -> str:
        """The data set; who owns what is the program's."""
        return self.data.name


# Without presets it is no subcommand of `run`; without `build` nothing here starts it.
CUSTOM = MethodSpec(config=CustomRun, presets={}, build=None)
