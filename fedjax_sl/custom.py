"""Runs of algorithms that a program brings: their configuration, as far as it is known.

The command line compares and reports them; only the program that knows the algorithm
starts and resumes them (`runs.custom`).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from fedjax_sl.checks import check_types
from fedjax_sl.config_base import pytree, static
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.method_spec import MethodSpec


Parameter = bool | int | float | str | None


@pytree
@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """What a program tells of its algorithm."""

    name: str = static("custom")
    """What tables and figures call it."""

    cohort_size: int = static(1)
    """K, clients that participate in a round."""

    parameters: dict[str, Parameter] = field(
        default_factory=dict, metadata={"static": True}
    )
    """Its settings, by name, so that runs are told apart by them."""

    def __post_init__(self):
        """Checks types; the run checks the range of the cohort."""
        check_types(self)


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
        """What the program calls its algorithm."""
        return self.method.name

    @property
    def on_data(self) -> str:
        """The data set; who owns what is the program's."""
        return self.data.name


CUSTOM = MethodSpec(config=CustomRun, presets={}, build=None)
