"""What goes with each leaf of a model, of the layers that a client holds."""

from typing import Any

import jax

from fedjax_sl.models.class_cuts import held
from fedjax_sl.models.split import SplitModel


def leaves_held(at: SplitModel, params: Any, of_leaves: Any) -> Any:
    """Returns what goes with the leaves that a client holds.

    Args:
      at: the network at its cut.
      params: of all layers before the deepest cut.
      of_leaves: a list of anything for every leaf of them, in order; None if there is
        nothing.

    Returns:
      A list in the order of the leaves that it holds; None if there is nothing.
    """
    if of_leaves is None:
        return None
    mine = held(at, jax.tree.structure(params).unflatten(of_leaves))
    # Up to the leaves of the parameters: what goes with one may be a tree itself.
    return jax.tree.structure(held(at, params)).flatten_up_to(mine)


def with_leaves_held(at: SplitModel, params: Any, of_leaves: Any, new: Any) -> Any:
    """Puts what `leaves_held` returned back among the others."""
    if of_leaves is None:
        return None
    every = jax.tree.structure(params)
    mine = jax.tree.structure(held(at, params)).unflatten(new)
    # By whole stages: a client holds all leaves of a stage, or none.
    return every.flatten_up_to({**every.unflatten(of_leaves), **mine})
