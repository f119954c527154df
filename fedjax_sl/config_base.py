"""What the configurations of all methods have in common.

Numbers are leaves of a configuration, so that they can be swept without compiling
again; what changes shapes or code is static.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.checks import check, check_choice, check_types
from fedjax_sl.errors import InputError


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

Kind = TypeVar("Kind")

OptimizerName = Literal["sgd", "adam"]

MappingName = Literal["auto", "scan", "vmap", "chunks", "pmap", "mesh"]

Optimizer = Callable[[Any], optax.GradientTransformation]
"""A learning rate, which may be traced -> an optimiser."""


def static(default: Any) -> Any:
    """A field that is part of a configuration's structure."""
    return field(default=default, metadata={"static": True})


def pytree(kind: type[Kind]) -> type[Kind]:
    """Registers a dataclass whose fields are leaves, but for those that are static.

    Its checks are for those who construct it: JAX puts anything in place of leaves
    (shapes, axes, flags) when it rebuilds one, and is not refused.
    """
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    fixed = {one.name for one in fields(kind) if one.metadata.get("static")}  # type: ignore[arg-type]
    leaves, fixed = [n for n in names if n not in fixed], sorted(fixed)

    def parts(config):
        return tuple(getattr(config, name) for name in fixed)

    def flatten(config):
        return tuple(getattr(config, name) for name in leaves), parts(config)

    def flatten_with_keys(config):
        keyed = ((jax.tree_util.GetAttrKey(n), getattr(config, n)) for n in leaves)
        return tuple(keyed), parts(config)

    def unflatten(kept, values):
        new = object.__new__(kind)
        for name, value in zip([*leaves, *fixed], [*values, *kept], strict=True):
            object.__setattr__(new, name, value)
        return new

    register = jax.tree_util.register_pytree_with_keys
    register(kind, flatten_with_keys, unflatten, flatten)
    return kind


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
        """Checks what can be checked: choices and plain numbers, not traced values."""
        check_types(self)
        for name in ("clip_norm", "max_update_norm"):
            check(self, name, lambda v: v > 0, "a number > 0")
        check(self, "trim", lambda v: 0 <= v <= 0.5, "a number in [0, 0.5]")
        finite = float("inf")
        check(self, "noise_multiplier", lambda v: 0 <= v < finite, "a number >= 0")
        if self.noise_multiplier is not None and self.clip_norm is None:
            raise InputError(
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
    check_choice("optimizer", name, OptimizerName)
    if name == "adam":
        return optax.adam
    return lambda rate: optax.sgd(rate, momentum=momentum)
