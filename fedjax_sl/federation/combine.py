"""One model of the clients': their mean, or a mean that few of them can move."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.federation.aggregation import mean_of_shares, share
from fedjax_sl.federation.clients import ClientMap


class Received(NamedTuple):
    """What came of one client.

    Attributes:
      model: leaves `[...]`.
      sent: the same structure: [] flags for whole leaves, or masks for single entries;
        None where all was sent.
      weight: [] omega_k, 0 if it has no part.
    """

    model: Any
    sent: Any
    weight: jax.Array


def clipped(update: Any, most: Any) -> Any:
    """The update, scaled down to a 2-norm of at most C: `u min(1, C / |u|)`.

    Args:
      update: leaves `[...]`.
      most: C; None leaves it as it is.

    Returns:
      The same structure.
    """
    if most is None:
        return update
    squares = jnp.stack([(leaf * leaf).sum() for leaf in jax.tree.leaves(update)])
    norm = jnp.sqrt(squares.sum())
    scale = jnp.where(norm > most, most / norm, 1.0)
    return jax.tree.map(lambda leaf: leaf * scale, update)


def trimmed_mean(received: Received, fallback: Any, *, trim: Any) -> Any:
    """Coordinate by coordinate, the mean without the smallest and the largest values.

    Of n values, `g = min(floor(beta n), floor((n - 1) / 2))` are left out at either end
    (Yin et al., 2018); beta = 1/2 is the median. Every client counts the same.

    Args:
      received: of K clients, leaves `[K, ...]`.
      fallback: leaves `[...]`, the values where nobody sent any.
      trim: beta, in [0, 1/2]; may be traced.

    Returns:
      Leaves `[...]`, of the fallback's dtypes.
    """
    clients = len(received.weight)

    def along(x, ndim):
        return x.reshape(*x.shape, *[1] * (ndim - x.ndim))

    def one(sent, values, old):
        present = along(received.weight > 0, values.ndim)
        if sent is not None:
            present &= along(sent, values.ndim)
        present = jnp.broadcast_to(present, values.shape)
        count = present.sum(axis=0)
        cut = jnp.minimum(jnp.floor(trim * count), (count - 1) // 2)
        ranked = jnp.sort(jnp.where(present, values, jnp.inf), axis=0)
        rank = along(jnp.arange(clients), values.ndim)
        used = (rank >= cut[None]) & (rank < (count - cut)[None])
        mean = jnp.where(used, ranked, 0.0).sum(axis=0) / jnp.maximum(
            used.sum(axis=0), 1
        )
        return jnp.where(count > 0, mean, old).astype(old.dtype)

    return jax.tree.map(
        one, received.sent, received.model, fallback, is_leaf=lambda x: x is None
    )


def combine(
    over_clients: ClientMap,
    function: Callable[..., tuple[Received, Any]],
    shared: tuple[Any, ...],
    stacked: tuple[Any, ...],
    fallback: Any,
    *,
    trim: Any,
) -> tuple[Any, Any]:
    """One model of the clients', and what is each client's own.

    Args:
      over_clients: how clients are mapped.
      function: `function(*shared, *stacked) -> (Received, own)` of one client.
      shared: what all clients share.
      stacked: leaves `[K, ...]`.
      fallback: leaves `[...]`, the values where nobody sent any.
      trim: None for the weighted mean over those who sent, of which one running sum is
        held; else as for `trimmed_mean`, which holds the models of all K.

    Returns:
      The model, and own parts `[K, ...]`.
    """
    if trim is not None:
        received, own = over_clients.map(function, *shared)(*stacked)
        return trimmed_mean(received, fallback, trim=trim), own

    def term(*arguments):
        received, own = function(*arguments)
        return share(*received), own

    shares, own = over_clients.total(term, *shared)(*stacked)
    return mean_of_shares(shares, fallback), own
