"""A network's traced program: its products, and which axes index the same channels.

Nothing is known of layers or of their names: axes are followed through the primitives
of the program, see `models.walker`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from fedjax_sl.layers.conv import as_written
from fedjax_sl.models.axes import Atoms, Axis
from fedjax_sl.models.walker import Path, Product, Value, Walker


class Traced(NamedTuple):
    """What was found in a program.

    Attributes:
      atoms: which axes are the same.
      leaves: the axes of each variable.
      products: in order of execution.
      output: the axes of the result, batch included.
    """

    atoms: Atoms
    leaves: dict[Path, tuple[Axis, ...]]
    products: list[Product]
    output: tuple[Axis, ...]


def trace(
    function: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    input_shape: tuple[int, ...],
) -> Traced:
    """Traces a network for one example.

    Args:
      function: `(variables, x [1, ...]) -> y [1, ...]`.
      variables: nested dicts of arrays, or of their shapes.
      input_shape: of one example.

    Returns:
      A `Traced`; nothing may be removed of the axes of the input.
    """
    # A batch of one: MACs are of an example, and an axis of size 1 is none to follow.
    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    # Winograd's tiles, for one, take fewer MACs than the convolution they compute.
    with as_written():
        program = jax.make_jaxpr(function)(variables, x)
    walker, paths = Walker(), jax.tree_util.tree_leaves_with_path(variables)
    leaves = {
        tuple(part.key for part in path): tuple(map(walker.atoms.new, leaf.shape))
        for path, leaf in paths
    }
    given = [Value(axes, path) for path, axes in leaves.items()]
    # Rows, columns and colours are the data's own: none of them may be removed.
    given.append(walker.opaque((1, *input_shape)))
    (output,) = walker.run(program.jaxpr, given)
    return Traced(walker.atoms, leaves, walker.products, output.axes)


def trace_module(module: nn.Module, input_shape: tuple[int, ...]) -> Traced:
    """Traces a network, or a half of one, as it is evaluated."""

    def init(key, x):
        return dict(module.init(key, x, False))

    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    variables = jax.eval_shape(init, jax.random.key(0), x)

    def evaluate(variables, x) -> Any:
        return module.apply(variables, x, False)

    return trace(evaluate, variables, input_shape)
