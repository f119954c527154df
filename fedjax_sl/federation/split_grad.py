"""One forward and backward pass through the cut.

The clients' halves are mapped over the clients of a group, see
`federation.client_pass`; the server, which has one set of weights, receives all their
activations as one batch. The server's gradients are summed over groups, so the grouping
affects only time and memory, unless the server's norms keep batch statistics. A network
with a second cut goes on at the clients, see `federation.server_pass`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Batch
from fedjax_sl.federation.client_pass import Cut, backward, forward
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.second_cut import UNCHANGED, SecondCut
from fedjax_sl.federation.server_pass import (
    Served,
    along,
    to_logits,
    to_tails,
)
from fedjax_sl.models.split import SplitModel, Variables, joined_parts


class SplitGrad(NamedTuple):
    """Result of `split_grad`.

    Attributes:
      loss: `[G]` mean loss of each client's batch.
      client: gradients of each client's own loss in its parameters, leaves `[G, ...]`.
      server: gradient of the weighted mean loss in the server's parameters.
      client_stats, server_stats: the variables with updated norm statistics.
      at_cut, back: auxiliary data of `Cut.up` and `Cut.down`, for each cut.
      behind: those of `SecondCut.down` and `SecondCut.up`; None without one.
      finite: `[G]` bool, whether all that the server received is finite; if not, the
        client is rejected. True for absent clients.
    """

    loss: jax.Array
    client: Any
    server: Any
    client_stats: Variables
    server_stats: Variables
    at_cut: tuple[Any, ...]
    back: tuple[Any, ...]
    behind: Any
    finite: jax.Array


def _emptied(batch: Batch, absent: jax.Array) -> Batch:
    """Zeros the images that are padding, or of absent clients `[G]`."""
    weight = jnp.where(absent[:, None], 0.0, batch.weight)
    real = (weight > 0).reshape(*weight.shape, 1, 1, 1)
    # Zeroed, not only weighted by 0: 0 * nan is nan in the gradients.
    return batch._replace(image=jnp.where(real, batch.image, 0.0), weight=weight)


def _served(
    model: SplitModel,
    server: Variables,
    received: jax.Array,
    batch: Batch,
    *,
    weights: jax.Array,
    tail: Variables,
    second: SecondCut,
    each: Each,
) -> Served:
    """Passes what the server received through it, and through the tails, if any."""
    if model.tail is None:
        return to_logits(model, server, received, batch, weights=weights)
    return to_tails(
        model,
        server,
        received,
        batch,
        weights=weights,
        layers=model.tail,
        tail=tail,
        each=each,
        second=second,
    )


def split_grad(
    model: SplitModel,
    client: Variables,
    server: Variables,
    batch: Batch,
    weights: jax.Array,
    *,
    cuts: Sequence[Cut],
    second: SecondCut = UNCHANGED,
    each: Each,
) -> SplitGrad:
    """Computes losses and gradients of all parts, by one backward pass.

    Padded examples, and clients that are absent or send activations that are not
    finite, affect nothing, whatever their values: neither gradients nor batch
    statistics.

    Args:
      model: the split model.
      client: the clients' variables, leaves `[G, ...]`.
      server: the server's variables.
      batch: leaves `[G, B, ...]`.
      weights: `[G]` omega_k, summing to 1 over all groups; 0 for absent clients.
      cuts: transformations of tensors at the cut; at each, the shallowest first, if
        classes of devices differ in it.
      second: transformations at a second cut, which a network need not have.
      each: how the clients' halves are mapped.

    Returns:
      A `SplitGrad`.
    """
    chex.assert_rank([batch.image, batch.label, weights], [5, 2, 1])
    chex.assert_equal_shape_prefix([batch.image, batch.label], 2)

    present = weights > 0
    batch = _emptied(batch, ~present)
    head, tail = model.parts(client)

    sent = forward(model, head, batch, cuts=cuts, each=each)
    finite = sent.finite | ~present
    heard = finite & present
    # Zeroed, not only weighted by 0: 0 * nan is nan in the server's gradient.
    received = jnp.where(along(heard, sent.received), sent.received, 0.0)
    # Also out of the server's batch statistics, which follow these weights.
    known = batch._replace(weight=batch.weight * heard[:, None])
    served = _served(
        model,
        server,
        received,
        known,
        weights=jnp.where(heard, weights, 0.0),
        tail=tail,
        second=second,
        each=each,
    )
    finite &= served.finite
    head_grad, returned = backward(sent.passed, served.at_cut, cuts)
    return SplitGrad(
        # The loss of zeroed activations would be meaningless.
        loss=jnp.where(finite, served.loss, jnp.nan),
        client={**head_grad, **served.tail},
        server=served.server,
        client_stats=joined_parts(sent.statistics, served.tail_stats),
        server_stats=served.server_stats,
        at_cut=tuple(segment.at_cut for segment in sent.passed),
        back=returned,
        behind=served.behind,
        finite=finite,
    )
