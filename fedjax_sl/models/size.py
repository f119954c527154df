"""How large a network is."""

from collections.abc import Mapping
from typing import Any

import jax


def parameters_of(*variables: Mapping[str, Any]) -> int:
    """Counts the parameters of a network, without its statistics.

    Args:
      *variables: Flax variable dicts of its parts, arrays or shapes.

    Returns:
      The number of scalars in all of their `params`.
    """
    return sum(
        leaf.size for part in variables for leaf in jax.tree.leaves(part.get("params"))
    )
