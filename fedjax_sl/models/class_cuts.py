"""A network that is cut after another number of layers for each class of devices.

The network itself is cut at the deepest of these cuts. In between, every client has a
copy of its own of the layers behind its cut, on the server (HASFL, arXiv 2506.08426).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.models.split import SplitModel, Stages, stage_name


def _depth(model: SplitModel) -> int:
    """The number of stages before the cut."""
    return len(model.client.stages)  # type: ignore[attr-defined]


def cut_by_class(models: Sequence[SplitModel]) -> SplitModel:
    """Makes one network of those of G classes: client k is cut as number k mod G.

    Args:
      models: the same network of stages, cut once for each class.

    Returns:
      The network at its deepest cut; that alone if all cuts are equal.
    """
    # It has all layers that any client holds: state and masks are of its shapes.
    deepest = max(models, key=_depth)
    # One cut for all compiles no switch, and allows what needs equal clients.
    if all(model == deepest for model in models):
        return deepest
    return dataclasses.replace(deepest, by_class=tuple(models))


def cut_models(model: SplitModel) -> tuple[SplitModel, ...]:
    """The network at each of its distinct cuts, the shallowest first."""
    if not model.by_class:
        return (model,)
    # Equal models are one: two classes of devices may have the same cut.
    return tuple(sorted(dict.fromkeys(model.by_class), key=_depth))


def segments(model: SplitModel) -> tuple[nn.Module, ...]:
    """The layers before the first cut, and those between each two cuts."""
    if not model.by_class:
        return (model.client,)
    ends = [_depth(at) for at in cut_models(model)]
    stages = model.client.stages  # type: ignore[attr-defined]
    pairs = zip([0, *ends[:-1]], ends, strict=True)
    # Numbered as in the whole network: a segment finds its variables by name.
    return tuple(Stages(stages[start:end], first=start) for start, end in pairs)


def in_segment(layers: nn.Module, tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of some stages of a tree of layers; all of another module."""
    if not isinstance(layers, Stages):
        return tree
    names = {stage_name(layers.first + n) for n in range(len(layers.stages))}
    return {name: entry for name, entry in tree.items() if name in names}


def held(model: SplitModel, tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of the layers that a client of a cut holds.

    Args:
      model: the network at that cut.
      tree: of the layers before any cut, such as parameters or masks.
    """
    mine = in_segment(model.client, tree)
    return mine if model.tail is None else {**mine, **in_segment(model.tail, tree)}


def own_cuts(model: SplitModel, client_id: jax.Array) -> jax.Array | None:
    """Numbers the cut of each client among `cut_models`, `[K]`; None if it has one."""
    if not model.by_class:
        return None
    known = cut_models(model)
    classes = jnp.asarray([known.index(at) for at in model.by_class], jnp.int32)
    # As `config_base.per_client`: a client is of one class in every option.
    return classes[client_id % len(model.by_class)]


def by_own_cut(
    model: SplitModel, own_cut: jax.Array | None, function: Callable[[SplitModel], Any]
) -> Any:
    """Calls a function of the model at the cut of one client.

    Args:
      model: the network.
      own_cut: [], as from `own_cuts`.
      function: its results have the same shapes at every cut.
    """
    if own_cut is None:
        return function(model)
    branches = [partial(function, at) for at in cut_models(model)]
    # A switch: clients that go one after another pay for their own cut alone.
    return jax.lax.switch(own_cut, branches)


def pick(own_cut: jax.Array | None, of_cuts: Sequence[Any]) -> Any:
    """Picks what is of each client's own cut.

    Args:
      own_cut: `[K]`, as from `own_cuts`.
      of_cuts: for each of `cut_models`, leaves [] or `[K]`.

    Returns:
      Leaves `[K]`; what is of the only cut, as it is, if there is one.
    """
    if own_cut is None:
        (only,) = of_cuts
        return only
    slots = jnp.arange(len(own_cut))

    def of_clients(*counts):
        every = [jnp.broadcast_to(count, slots.shape) for count in counts]
        return jnp.stack(every)[own_cut, slots]

    return jax.tree.map(of_clients, *of_cuts)
