"""One forward and backward pass through the cut.

The clients' halves are mapped over the clients of a group; the server, which has one
set of weights, receives all their activations as one batch. The server's gradients are
summed over groups, so the grouping affects only time and memory, unless the server's
norms keep batch statistics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Batch
from fedjax_sl.federation.clients import Each
from fedjax_sl.models.split import SplitModel, Variables, apply


class Cut(NamedTuple):
    """Transformations of tensors at the cut, as functions of a group's arrays.

    Attributes:
      up: activations `[G, B, ...]` -> (received activations, auxiliary data for
        `down`); differentiated.
      down: (gradients `[G, B, ...]` at the received activations, auxiliary data) ->
        (gradients that the clients receive, auxiliary data).
    """

    up: Callable[[jax.Array], tuple[jax.Array, Any]]
    down: Callable[[jax.Array, Any], tuple[jax.Array, Any]]


class SplitGrad(NamedTuple):
    """Result of `split_grad`.

    Attributes:
      loss: `[G]` mean loss of each client's batch.
      client: gradients of each client's own loss in its parameters, leaves `[G, ...]`.
      server: gradient of the weighted mean loss in the server's parameters.
      client_stats, server_stats: the variables with updated norm statistics.
      at_cut, back: auxiliary data of `Cut.up` and `Cut.down`.
      finite: `[G]` bool, whether the received activations are finite; if not, the
        client is rejected. True for absent clients.
    """

    loss: jax.Array
    client: Any
    server: Any
    client_stats: Variables
    server_stats: Variables
    at_cut: Any
    back: Any
    finite: jax.Array


def mean_loss(logits: jax.Array, batch: Batch) -> jax.Array:
    """Computes the mean cross-entropy over the weighted examples of a batch."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    return (losses * batch.weight).sum() / jnp.maximum(batch.weight.sum(), 1.0)


def _emptied(batch: Batch, absent: jax.Array) -> Batch:
    """Zeros the images that are padding, or of absent clients `[G]`."""
    weight = jnp.where(absent[:, None], 0.0, batch.weight)
    real = (weight > 0).reshape(*weight.shape, 1, 1, 1)
    return batch._replace(image=jnp.where(real, batch.image, 0.0), weight=weight)


def _server_pass(model, server, received, batch, *, weights):
    """Computes losses, the server's gradient, and each client's gradient at the cut."""

    def objective(params, received):
        merged = received.reshape(-1, *received.shape[2:])
        variables, real = {**server, "params": params}, batch.weight.reshape(-1)
        logits, stats = apply(model.server, variables, merged, real, train=True)
        loss = jax.vmap(mean_loss)(logits.reshape(*batch.label.shape, -1), batch)
        return jnp.vdot(weights, loss), (loss, stats)

    grad = jax.grad(objective, argnums=(0, 1), has_aux=True)
    (server_grad, cut_grad), (loss, stats) = grad(server["params"], received)
    # One backward pass serves both: it yields omega_k times client k's gradient at the
    # cut, so the weight is divided out again. The inner select avoids 1 / 0.
    scale = jnp.where(weights > 0, 1.0 / jnp.where(weights > 0, weights, 1.0), 0.0)
    # Under batch norm on the server this gradient includes the other clients' losses:
    # the batch statistics depend on client k's activations.
    cut_grad *= scale.reshape(-1, *[1] * (cut_grad.ndim - 1))
    return loss, server_grad, cut_grad, stats


def split_grad(
    model: SplitModel,
    client: Variables,
    server: Variables,
    batch: Batch,
    weights: jax.Array,
    *,
    cut: Cut,
    each: Each,
) -> SplitGrad:
    """Computes losses and gradients of both halves, by one backward pass.

    Padded examples, and clients that are absent or send activations that are not
    finite, affect nothing, whatever their values: neither gradients nor batch
    statistics.

    Args:
      model: the split model.
      client: the clients' variables, leaves `[G, ...]`.
      server: the server's variables.
      batch: leaves `[G, B, ...]`.
      weights: `[G]` omega_k, summing to 1 over all groups; 0 for absent clients.
      cut: transformations of tensors at the cut.
      each: how the clients' halves are mapped.

    Returns:
      A `SplitGrad`.
    """
    chex.assert_rank([batch.image, batch.label, weights], [5, 2, 1])
    chex.assert_equal_shape_prefix([batch.image, batch.label], 2)

    present = weights > 0
    batch = _emptied(batch, ~present)

    def half(variables, image, weight):
        return apply(model.client, variables, image, weight, train=True)

    def forward(params):
        return each(half)({**client, "params": params}, batch.image, batch.weight)

    # Pullbacks of each part, not one gradient: `cut.down` comes between them.
    activations, back, client_stats = jax.vjp(forward, client["params"], has_aux=True)
    received, back_cut, at_cut = jax.vjp(cut.up, activations, has_aux=True)
    # The sum is finite only if every activation is.
    finite = jnp.isfinite(received.sum(axis=tuple(range(1, received.ndim)))) | ~present
    heard = finite & present
    # Zeroed, not only weighted by 0: 0 * nan is nan in the server's gradient.
    received = jnp.where(heard.reshape(-1, *[1] * (received.ndim - 1)), received, 0.0)
    # Also out of the server's batch statistics, which follow these weights.
    known = batch._replace(weight=batch.weight * heard[:, None])
    loss, server_grad, cut_grad, server_stats = _server_pass(
        model, server, received, known, weights=jnp.where(heard, weights, 0.0)
    )
    # The loss of zeroed activations would be meaningless.
    loss = jnp.where(finite, loss, jnp.nan)
    received_grad, returned = cut.down(cut_grad, at_cut)
    (activation_grad,) = back_cut(received_grad)
    (client_grad,) = back(activation_grad)
    return SplitGrad(
        loss=loss,
        client=client_grad,
        server=server_grad,
        client_stats=client_stats,
        server_stats=server_stats,
        at_cut=at_cut,
        back=returned,
        finite=finite,
    )
