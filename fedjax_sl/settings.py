"""What the configurations of all methods have in common.

Numbers are leaves of a configuration, so that they can be swept without compiling
again; what changes shapes or code is static.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import optax


# The command line needs to know what may be typed; a program may also pass arrays and
# traced values.
if TYPE_CHECKING:
    Number = Any
    Integer = Any
    PerClass = Any
    IntegerPerClass = Any
else:
    Number = float
    Integer = int
    PerClass = float | tuple[float, ...]
    IntegerPerClass = int | tuple[int, ...]

OptimizerName = Literal["sgd", "adam"]

MappingName = Literal["auto", "scan", "vmap", "chunks", "pmap", "mesh"]

Optimizer = Callable[[Any], optax.GradientTransformation]
"""A learning rate, which may be traced -> an optimiser."""


def static(default: Any) -> Any:
    """A field that is part of a configuration's structure."""
    return field(default=default, metadata={"static": True})


def check(config: Any, name: str, allowed: Callable[[Any], bool], range: str) -> None:
    """Refuses plain numbers out of range; arrays and traced values pass.

    Raises:
      ValueError: naming the field, its value and the range.
    """
    value = getattr(config, name)
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int | float) and not allowed(one):
            raise ValueError(f"{name}={one}: expected {range}.")


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """What happens to the clients' updates before they become one model."""

    clip_norm: Number | None = None
    """C, 2-norm to which a client scales its update down before it is quantised, > 0;
    not at all if not given."""

    noise_multiplier: Number | None = None
    """z, >= 0: a client adds Gaussian noise of standard deviation z C to its clipped
    update before it is quantised, for differential privacy; none if not given."""

    trim: Number | None = None
    """beta, share of the clients left out at either end in every coordinate, in
    [0, 0.5], 0.5 being the median; the weighted mean if not given."""

    max_update_norm: Number | None = None
    """Updates whose 2-norm is larger are left out of the mean, > 0; those that are not
    finite always are."""

    def __post_init__(self):
        """Checks what can be checked: plain numbers, not traced values."""
        for name in ("clip_norm", "max_update_norm"):
            check(self, name, lambda v: v > 0, "a number > 0")
        check(self, "trim", lambda v: 0 <= v <= 0.5, "a number in [0, 0.5]")
        finite = float("inf")
        check(self, "noise_multiplier", lambda v: 0 <= v < finite, "a number >= 0")
        if self.noise_multiplier is not None and self.clip_norm is None:
            raise ValueError(
                f"noise_multiplier={self.noise_multiplier}: expected clip_norm, too."
            )


def per_client(value: Any, client_id: jax.Array, dtype: Any) -> jax.Array:
    """The number that holds for each client of a cohort.

    Args:
      value: one number, or G of them, one for each class of devices: client k has
        number k mod G.
      client_id: `[K]`.
      dtype: of the result.

    Returns:
      `[K]`.
    """
    value = jnp.asarray(value, dtype)
    if value.ndim == 0:
        return jnp.broadcast_to(value, client_id.shape)
    return value[client_id % value.shape[0]]


def optimizer_named(name: OptimizerName, momentum: Any) -> Optimizer:
    """The optimiser of that name as a function of the learning rate."""
    if name == "adam":
        return optax.adam
    return lambda rate: optax.sgd(rate, momentum=momentum)
