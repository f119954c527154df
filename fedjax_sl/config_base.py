"""Base of the configurations of all methods.

Numbers are leaves of a configuration, so that they can be swept without recompiling;
fields that change shapes or code are static.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.checks import check, check_choice, check_types
from fedjax_sl.errors import InputError


# The command line parses these types; a program may also pass arrays and traced values.
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

StoreName = Literal["device", "host"]

Optimizer = Callable[[Any], optax.GradientTransformation]
"""A learning rate, which may be traced -> an optimiser."""


def static(default: Any) -> Any:
    """Declares a field that is part of a configuration's structure."""
    return field(default=default, metadata={"static": True})


def pytree(kind: type[Kind]) -> type[Kind]:
    """Registers a dataclass as a pytree; fields that are not static are leaves."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    fixed = {f.name for f in fields(kind) if f.metadata.get("static")}  # type: ignore[arg-type]
    # Sorted: a set of texts has another order in every process.
    leaves, fixed = [n for n in names if n not in fixed], sorted(fixed)

    def parts(config):
        return tuple(getattr(config, name) for name in fixed)

    def flatten(config):
        return tuple(getattr(config, name) for name in leaves), parts(config)

    def flatten_with_keys(config):
        keyed = ((jax.tree_util.GetAttrKey(n), getattr(config, n)) for n in leaves)
        return tuple(keyed), parts(config)

    def unflatten(kept, values):
        # Without __init__, whose checks would reject what JAX puts in place of leaves
        # (shapes, axes, flags).
        new = object.__new__(kind)
        for name, value in zip([*leaves, *fixed], [*values, *kept], strict=True):
            object.__setattr__(new, name, value)
        return new

    # Not `register_dataclass`, which unflattens through __init__.
    register = jax.tree_util.register_pytree_with_keys
    register(kind, flatten_with_keys, unflatten, flatten)
    return kind


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """Options of local steps, and for clipping, privatizing and aggregating updates."""

    proximal: Number | None = None
    """mu of FedProx, >= 0: adds mu / 2 |w - w_0|^2 to a client's loss, w_0 the model
    that it received; none if not given."""

    clip_norm: Number | None = None
    """C, 2-norm to which a client clips its update before it is quantised, > 0; no
    clipping if not given."""

    noise_multiplier: Number | None = None
    """z, >= 0: a client adds Gaussian noise of standard deviation z C to its clipped
    update before it is quantised, for differential privacy; none if not given."""

    trim: Number | None = None
    """beta, share of the clients rejected at either end in every coordinate, in
    [0, 0.5]; of n clients that sent it floor(beta n) are, and the others count alike,
    whatever examples they have; 0.5 is the median; the weighted mean if not given."""

    max_update_norm: Number | None = None
    """Updates with a larger 2-norm are rejected, > 0; updates that are not finite
    always are."""

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        check_types(self)
        for name in ("clip_norm", "max_update_norm"):
            check(self, name, lambda v: v > 0, "a number > 0")
        check(self, "trim", lambda v: 0 <= v <= 0.5, "a number in [0, 0.5]")
        finite = float("inf")
        for name in ("proximal", "noise_multiplier"):
            check(self, name, lambda v: 0 <= v < finite, "a number >= 0")
        # Without a clip an update has no bound that noise could be scaled to.
        if self.noise_multiplier is not None and self.clip_norm is None:
            raise InputError(
                f"noise_multiplier={self.noise_multiplier}: expected clip_norm, too."
            )


def per_client(value: Any, client_id: jax.Array, dtype: Any) -> jax.Array:
    """Looks up the value of a parameter for each client of a cohort.

    Args:
      value: one number, or G of them, one for each class of devices: client k has
        number k mod G.
      client_id: `[K]`.
      dtype: of the result.

    Returns:
      `[K]`.
    """
    # First: a tuple, an array and a traced number are then one case.
    value = jnp.asarray(value, dtype)
    if value.ndim == 0:
        return jnp.broadcast_to(value, client_id.shape)
    # As the channel assigns its clocks (`phases.clock_of`): as many numbers as clocks
    # are of the same classes.
    return value[client_id % value.shape[0]]


def plain(tree: Any) -> Any:
    """Converts the numbers of one client, leaves [], to plain ones, on the host."""
    return jax.tree.map(lambda leaf: leaf.item(), tree)


def _kernels(params: Any) -> Any:
    """Marks what decays: what has more than one axis, and is no bias."""

    # A bias of attention has an axis of heads, too.
    def decays(path, leaf):
        return leaf.ndim > 1 and "bias" not in jax.tree_util.keystr(path[-1:])

    return jax.tree_util.tree_map_with_path(decays, params)


def optimizer_named(
    name: OptimizerName, momentum: Any, weight_decay: Any = None
) -> Optimizer:
    """Returns the optimiser of that name as a function of the learning rate.

    Args:
      name: "sgd" or "adam".
      momentum: of SGD.
      weight_decay: decoupled, of kernels only; none if not given.

    Returns:
      Learning rate -> optimiser.
    """
    check_choice("optimizer", name, OptimizerName)
    # `trace` at momentum 0, too, which may be traced: the state has one structure.
    scale = optax.scale_by_adam() if name == "adam" else optax.trace(momentum)
    decay = []
    if weight_decay is not None:
        decay = [optax.add_decayed_weights(weight_decay, _kernels)]
    # Decay after the scaling: Adam would rescale it, and momentum add it up.
    return lambda rate: optax.chain(scale, *decay, optax.scale_by_learning_rate(rate))
