"""Parameters and operations of the layers of a network."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.models.trace import trace_module


NORM_OPERATIONS = 4
"""Operations for each output of a normalisation, as the profiler thop counts them."""


class LayerCost(NamedTuple):
    """A module that has parameters.

    Attributes:
      name: its path in the network, such as `block1/conv`.
      params: parameters; running statistics do not count.
      macs: MACs for one example; biases do not count.
      norm_outputs: outputs of a normalisation for one example.
    """

    name: str
    params: int
    macs: int
    norm_outputs: int

    @property
    def operations(self) -> int:
        """FLOPs as thop counts them: MACs, and 4 for each output of a normalisation."""
        return self.macs + NORM_OPERATIONS * self.norm_outputs


def _cost(module: nn.Module, given: jax.Array, output: Any) -> LayerCost:
    """Counts one call; a norm is counted before any pooling that it may contain."""
    params: dict[str, Any] = dict(module.variables.get("params", {}))
    # Of the first output: `Conv.parts` returns its bias, too.
    pixels = math.prod(jax.tree.leaves(output)[0].shape[1:-1])
    size, kernel = math.prod(given.shape[1:]), params.get("kernel")
    return LayerCost(
        name="/".join(module.path),
        params=sum(leaf.size for leaf in params.values()),
        # Each pixel of the output takes the whole kernel; a vector is one pixel.
        macs=0 if kernel is None else pixels * kernel.size,
        # By its parameters, whichever norm it is: norms alone have a scale.
        norm_outputs=size if "scale" in params else 0,
    )


def layer_costs(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerCost]:
    """Counts the cost of each layer of a network, in order of execution.

    Args:
      model: a module `(x, train, ...) -> y`.
      input_shape: of one example.

    Returns:
      A `LayerCost` for each module that has parameters of its own.
    """
    costs: dict[tuple[str, ...], LayerCost] = {}

    def watch(call, args, kwargs, context):
        output = call(*args, **kwargs)
        own = context.module.variables.get("params", {})
        # A module of modules is left out: its parts are counted themselves.
        if own and not any(isinstance(leaf, dict) for leaf in own.values()):
            # By path: a convolution may be seen twice, as `__call__` and as `parts`.
            costs[context.module.path] = _cost(context.module, args[0], output)
        return output

    def run(key, x):
        variables = model.init(key, x, False)
        with nn.intercept_methods(watch):
            return model.apply(variables, x, False)

    # Shapes suffice: the network is traced, but not run.
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    jax.eval_shape(run, jax.random.key(0), x)
    return list(costs.values())


# Traced once: a network of many layers takes a second each time.
@lru_cache(maxsize=256)
def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Counts the MACs of all products of one example's forward pass."""
    return sum(product.macs for product in trace_module(model, input_shape).products)
