"""The passes through the clients' layers: activations over the cut, gradients back.

If classes of devices are cut at different layers, a client's activations are
transmitted at its own cut, and go on through its own copies of the layers up to the
deepest cut, which are on the server.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.algorithm import Batch
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.server_pass import all_finite, along
from fedjax_sl.models.class_cuts import in_segment, segments
from fedjax_sl.models.split import SplitModel, Variables, apply, joined_parts


class Cut(NamedTuple):
    """Transformations of tensors at the cuts, as functions of a group's arrays.

    Attributes:
      up: activations `[G, B, ...]` -> (received activations, auxiliary data for
        `down`); differentiated.
      down: (gradients `[G, B, ...]` at the received activations, auxiliary data) ->
        (gradients that the clients receive, auxiliary data).
      here: `[G]` bool, the clients that are cut here; None for all. What is of others
        passes as it is.
    """

    up: Callable[[jax.Array], tuple[jax.Array, Any]]
    down: Callable[[jax.Array, Any], tuple[jax.Array, Any]]
    here: jax.Array | None = None


class Segment(NamedTuple):
    """The pullbacks of the layers before a cut, and of the cut.

    Attributes:
      layers: gradient of the activations -> those of parameters and, behind another
        cut, of the input.
      cut: gradient of what was received -> that of the activations.
      at_cut: auxiliary data of `Cut.up`.
    """

    layers: Callable[[jax.Array], tuple[Any, ...]]
    cut: Callable[[jax.Array], tuple[jax.Array]]
    at_cut: Any


class Forward(NamedTuple):
    """What the server received behind all cuts, and how it came about.

    Attributes:
      received: `[G, B, ...]`.
      finite: `[G]` bool, whether all that arrived is.
      passed: the segments, in order.
      statistics: the clients' variables with updated norm statistics.
    """

    received: jax.Array
    finite: jax.Array
    passed: list[Segment]
    statistics: Variables


def _where_here(here: jax.Array | None, new: jax.Array, old: jax.Array) -> jax.Array:
    return new if here is None else jnp.where(along(here, new), new, old)


def _segment(
    layers: nn.Module,
    head: Variables,
    x: jax.Array,
    weight: jax.Array,
    *,
    cut: Cut,
    each: Each,
    first: bool,
) -> tuple[jax.Array, Variables, Segment]:
    """Passes `[G, B, ...]` through some layers and over the cut behind them."""
    own = {kind: in_segment(layers, tree) for kind, tree in head.items()}

    def half(variables, x, weight):
        return apply(layers, variables, x, weight, train=True)

    def through(params, x):
        return each(half)({**own, "params": params}, x, weight)

    def up(x):
        received, at_cut = cut.up(x)
        return _where_here(cut.here, received, x), at_cut

    # Pullbacks of each part, not one gradient: `cut.down` comes between them.
    if first:
        # Images have no gradient.
        of_params = partial(through, x=x)
        y, back, after = jax.vjp(of_params, own["params"], has_aux=True)
    else:
        y, back, after = jax.vjp(through, own["params"], x, has_aux=True)
    received, back_cut, at_cut = jax.vjp(up, y, has_aux=True)
    return received, after, Segment(back, back_cut, at_cut)


def forward(
    model: SplitModel,
    head: Variables,
    batch: Batch,
    *,
    cuts: Sequence[Cut],
    each: Each,
) -> Forward:
    """Passes images through the layers before the deepest cut, and over the cuts.

    Args:
      model: the split model.
      head: the clients' variables of these layers, leaves `[G, ...]`.
      batch: leaves `[G, B, ...]`.
      cuts: at each cut, the shallowest first.
      each: how clients are mapped.

    Returns:
      A `Forward`.
    """
    x, arrived, passed, statistics = batch.image, [], [], {}
    # With everything off it is one pass: tests/fedsl/test_class_cuts.py.
    for layers, cut in zip(segments(model), cuts, strict=True):
        x, after, segment = _segment(
            layers, head, x, batch.weight, cut=cut, each=each, first=not passed
        )
        passed.append(segment)
        statistics = joined_parts(statistics, after)
        finite = all_finite(x)
        # Before its own cut a client's activations are its own affair.
        is_last = len(passed) == len(cuts)
        arrived.append(finite if is_last else finite | ~cut.here)  # type: ignore[operator]
    return Forward(x, reduce(jnp.logical_and, arrived), passed, statistics)


def backward(
    passed: Sequence[Segment], grad: jax.Array, cuts: Sequence[Cut]
) -> tuple[Any, tuple[Any, ...]]:
    """Passes gradients back from the deepest cut.

    Args:
      passed: the segments, as from `forward`.
      grad: `[G, B, ...]`, of each client's own loss at what the server received.
      cuts: as of `forward`.

    Returns:
      Gradients of the parameters, leaves `[G, ...]`; the auxiliary data of `Cut.down`
      at each cut.
    """
    params, returned = {}, []
    for segment, cut in zip(reversed(passed), reversed(cuts), strict=True):
        received, back = cut.down(grad, segment.at_cut)
        (grad,) = segment.cut(_where_here(cut.here, received, grad))
        own, *rest = segment.layers(grad)
        params, returned = {**own, **params}, [back, *returned]
        # Nothing comes before the first segment.
        grad = rest[0] if rest else grad
    return params, tuple(returned)
