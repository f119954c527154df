"""The pass through the server: from received activations to the gradients at the cut.

The server, which has one set of weights, sees all clients as one batch. In a U-shaped
network it returns features, and the clients compute the loss: no label reaches it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from fedjax_sl.algorithm import Batch
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.second_cut import SecondCut
from fedjax_sl.models.split import SplitModel, Variables, apply


class Served(NamedTuple):
    """Result of a pass.

    Attributes:
      loss: `[G]` mean loss of each client's batch.
      server: gradient of the weighted mean loss in the server's parameters.
      at_cut: `[G, B, ...]` gradients of each client's own loss at the cut.
      server_stats: the server's variables with updated norm statistics.
      tail: gradients of each client's own loss in the parameters of its tail, leaves
        `[G, ...]`; none without a second cut.
      tail_stats: the variables of the tails with updated norm statistics.
      behind: auxiliary data of `SecondCut.down` and `SecondCut.up`; None without one.
      finite: `[G]` bool, whether the gradients from the second cut are; True without.
    """

    loss: jax.Array
    server: Any
    at_cut: jax.Array
    server_stats: Variables
    tail: Any
    tail_stats: Variables
    behind: Any
    finite: jax.Array


def mean_loss(logits: jax.Array, batch: Batch) -> jax.Array:
    """Computes the mean cross-entropy over the weighted examples of a batch."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    # A batch of padding alone has loss 0, not 0 / 0.
    return (losses * batch.weight).sum() / jnp.maximum(batch.weight.sum(), 1.0)


def along(value: jax.Array, tree: jax.Array) -> jax.Array:
    """Gives a value per client, `[G]`, the rank of an array `[G, ...]`."""
    return value.reshape(-1, *[1] * (tree.ndim - 1))


def all_finite(sent: jax.Array) -> jax.Array:
    """Returns whether all that a client sent is finite, `[G]` bool."""
    # The sum is finite only if every entry is.
    return jnp.isfinite(sent.sum(axis=tuple(range(1, sent.ndim))))


def _own(grad: jax.Array, weights: jax.Array) -> jax.Array:
    """Divides omega_k out of gradients at the cut, `[G, B, ...]`; 0 where it is 0."""
    # One backward pass serves both sides: it yields omega_k times client k's gradient.
    # The inner select avoids 1 / 0.
    scale = jnp.where(weights > 0, 1.0 / jnp.where(weights > 0, weights, 1.0), 0.0)
    # Under batch norm on the server this gradient includes the other clients' losses:
    # the batch statistics depend on client k's activations.
    return grad * along(scale, grad)


def _through(
    model: SplitModel, server: Variables, real: jax.Array
) -> Callable[[Any, jax.Array], tuple[jax.Array, Variables]]:
    """Returns the pass of all clients' activations `[G, B, ...]` as one batch."""

    def forward(params, received):
        # One batch, as the server's norms take statistics over all clients' examples.
        merged = received.reshape(-1, *received.shape[2:])
        variables = {**server, "params": params}
        y, stats = apply(model.server, variables, merged, real.reshape(-1), train=True)
        return y.reshape(*real.shape, *y.shape[1:]), stats

    return forward


def to_logits(
    model: SplitModel,
    server: Variables,
    received: jax.Array,
    batch: Batch,
    *,
    weights: jax.Array,
) -> Served:
    """Passes activations to the logits, and their losses back to the cut.

    Args:
      model: the split model, without a second cut.
      server: the server's variables.
      received: activations `[G, B, ...]`.
      batch: their labels and weights, leaves `[G, B, ...]`.
      weights: `[G]` omega_k; 0 for clients that the server did not hear.

    Returns:
      A `Served`.
    """
    forward = _through(model, server, batch.weight)

    def objective(params, received):
        logits, stats = forward(params, received)
        loss = jax.vmap(mean_loss)(logits, batch)
        # Losses are weighted before the one backward pass; `_own` divides after it.
        return jnp.vdot(weights, loss), (loss, stats)

    grad = jax.grad(objective, argnums=(0, 1), has_aux=True)
    (server_grad, cut_grad), (loss, stats) = grad(server["params"], received)
    return Served(
        loss=loss,
        server=server_grad,
        at_cut=_own(cut_grad, weights),
        server_stats=stats,
        tail={},
        tail_stats={},
        behind=None,
        finite=jnp.ones_like(weights, bool),
    )


def to_tails(
    model: SplitModel,
    server: Variables,
    received: jax.Array,
    batch: Batch,
    *,
    weights: jax.Array,
    layers: nn.Module,
    tail: Variables,
    each: Each,
    second: SecondCut,
) -> Served:
    """Passes activations to the second cut, and what clients send from there back.

    Args:
      model: the split model.
      server: the server's variables.
      received: activations `[G, B, ...]`.
      batch: their labels and weights, which stay with the clients.
      weights: `[G]` omega_k; 0 for clients that the server did not hear.
      layers: those behind the second cut.
      tail: their variables, leaves `[G, ...]`.
      each: how the tails are mapped.
      second: transformations of what crosses it.

    Returns:
      A `Served`. Gradients that arrive not finite train nothing; their client's
      activations have entered the batch statistics of the server's norms by then.
    """
    forward = _through(model, server, batch.weight)
    features, back, stats = jax.vjp(forward, server["params"], received, has_aux=True)
    features, sent_back, at_features = jax.vjp(second.down, features, has_aux=True)

    def of_client(variables, features, batch):
        def objective(params, features):
            own = {**variables, "params": params}
            logits, stats = apply(layers, own, features, batch.weight, train=True)
            return mean_loss(logits, batch), stats

        grad = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        return grad(variables["params"], features)

    (loss, tail_stats), (tail_grad, sent) = each(of_client)(tail, features, batch)
    arrived, returned = second.up(sent, at_features)
    finite, known = all_finite(arrived), weights > 0
    # Zeroed, not only weighted by 0: 0 * nan is nan in the server's gradient.
    arrived = jnp.where(along(finite & known, arrived), arrived, 0.0)
    weights = jnp.where(finite, weights, 0.0)
    # The server's gradient is of the weighted mean; `_own` takes the weight out again.
    server_grad, cut_grad = back(*sent_back(arrived * along(weights, arrived)))
    return Served(
        loss=loss,
        server=server_grad,
        at_cut=_own(cut_grad, weights),
        server_stats=stats,
        tail=tail_grad,
        tail_stats=tail_stats,
        behind=(at_features, returned),
        # Who was not heard before the server's pass is judged by that alone.
        finite=finite | ~known,
    )
