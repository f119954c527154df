"""What is done to tensors at a second cut, where the server's layers end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class SecondCut(NamedTuple):
    """Transformations of tensors at a second cut, as functions of a group's arrays.

    Attributes:
      down: features `[G, B, ...]` -> (features that the clients receive, auxiliary data
        for `up`); differentiated.
      up: (gradients `[G, B, ...]` at the received features, auxiliary data) ->
        (gradients that the server receives, auxiliary data).
    """

    down: Callable[[jax.Array], tuple[jax.Array, Any]]
    up: Callable[[jax.Array, Any], tuple[jax.Array, Any]]


UNCHANGED = SecondCut(lambda features: (features, None), lambda grad, _: (grad, None))
"""Everything arrives as it is."""
