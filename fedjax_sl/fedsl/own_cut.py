"""What one client does at its own cut, where the classes of devices differ in it."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import Each
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.class_cuts import by_own_cut, cut_models
from fedjax_sl.models.split import SplitModel


def check_class_cuts(config: FedSLConfig, model: SplitModel) -> None:
    """Rejects options that need all clients to hold the same layers.

    Raises:
      ValueError: naming the option.
    """
    if not model.by_class:
        return
    needed = {
        "client_update": ("parallel", "other clients hold layers that are averaged"),
        "backward": ("own", "one mean gradient is of one cut"),
        "mask_scope": ("per_client", "a common mask is of layers that all hold"),
        "restore": (True, "what some clients do not hold they never prune"),
    }
    if config.noise_multiplier is not None:
        # Its value may be traced.
        needed["noise_multiplier"] = (None, "the server's copies carry no noise")
    for name, (value, why) in needed.items():
        given = getattr(config, name)
        if value is None or given != value:
            raise InputError(
                f"{name}={given!r}: expected {value!r} with several cuts, as {why}."
            )


def _none(leaf: Any) -> bool:
    return leaf is None


def mask_by_own_cut(
    model: SplitModel, own_cut: jax.Array | None, function: Callable[[SplitModel], Any]
) -> Any:
    """Builds a mask of one client by `by_own_cut`; what it does not hold is kept.

    Args:
      model: the network.
      own_cut: [], as from `own_cuts`.
      function: its masks may have other leaves, or other axes of size 1, at each cut.

    Returns:
      A mask of the same shapes at every cut.
    """
    if own_cut is None:
        return function(model)

    def widest(one, other):
        if one is None or other is None:
            return other if one is None else one
        # An axis of size 1 stands for equal entries: the widest shape holds each mask.
        shape = tuple(map(max, one.shape, other.shape))
        return jax.ShapeDtypeStruct(shape, bool)

    # The branches of a switch must agree in shape, though cuts hold other layers.
    shapes = reduce(
        partial(jax.tree.map, widest, is_leaf=_none),
        [jax.eval_shape(partial(function, at)) for at in cut_models(model)],
    )

    def fitted(like, mask):
        if like is None:
            return None
        # None keeps all, as do layers that are not held at this cut.
        return jnp.broadcast_to(True if mask is None else mask, like.shape)

    def masked(at):
        return jax.tree.map(fitted, shapes, function(at), is_leaf=_none)

    return by_own_cut(model, own_cut, masked)


def of_those_here(each: Each, here: jax.Array | None) -> Each:
    """Maps over the clients whose cut is here, `[G]` bool; of others results are 0."""
    if here is None:
        return jax.vmap

    def mapped(function):
        def of_client(here, *arguments):
            def nothing(*arguments):
                shapes = jax.eval_shape(function, *arguments)
                return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

            # A cond: sequential clients pay for their own cut alone.
            return jax.lax.cond(here, function, nothing, *arguments)

        return lambda *stacked: each(of_client)(here, *stacked)

    return mapped
