"""Combines the clients' models: a weighted mean, or a robust trimmed mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.checks import is_plain
from fedjax_sl.federation.aggregation import mean_of_shares, share
from fedjax_sl.federation.clients import ClientMap


EPSILON = float(jnp.finfo(jnp.float32).eps)


class Received(NamedTuple):
    """One client's model, as the server receives it.

    Attributes:
      model: leaves `[...]`.
      sent: the same structure: [] flags for whole leaves, or masks for single entries;
        None for leaves that were sent entirely.
      weight: [] omega_k, 0 if the client does not participate or is rejected.
    """

    model: Any
    sent: Any
    weight: jax.Array


def clipped(update: Any, most: Any) -> Any:
    """Scales an update down to a 2-norm of at most C: `u min(1, C / |u|)`.

    Args:
      update: leaves `[...]`.
      most: C; None does not clip.

    Returns:
      The same structure.
    """
    if most is None:
        return update
    squares = jnp.stack([(leaf * leaf).sum() for leaf in jax.tree.leaves(update)])
    norm = jnp.sqrt(squares.sum())
    # Exactly 1 where nothing is clipped, so that such an update keeps its bits.
    scale = jnp.where(norm > most, most / norm, 1.0)
    return jax.tree.map(lambda leaf: leaf * scale, update)


def _left_out(trim: Any, count: jax.Array) -> jax.Array:
    """Returns how many of `count` values are rejected at either end; one is left."""
    # The float32 nearest 0.42 is less than 0.42, but 0.42 of 150 must be 63.
    exact = jnp.asarray(trim, jnp.float32) * count * (1 + EPSILON)
    return jnp.minimum(jnp.floor(exact), (count - 1) // 2)


def trimmed_mean(received: Received, fallback: Any, *, trim: Any) -> Any:
    """Computes the coordinate-wise mean without the smallest and the largest values.

    Of n values, `g = min(floor(beta n), floor((n - 1) / 2))` are rejected at either end
    (Yin et al., 2018); beta = 1/2 is the median. All clients have the same weight.

    Args:
      received: of K clients, leaves `[K, ...]`.
      fallback: leaves `[...]`, the values of entries that no client sent.
      trim: beta, in [0, 1/2]; may be traced.

    Returns:
      Leaves `[...]`, of the fallback's dtypes.
    """
    clients = len(received.weight)

    def along(x, ndim):
        return x.reshape(*x.shape, *[1] * (ndim - x.ndim))

    def trim_leaf(sent, values, old):
        present = along(received.weight > 0, values.ndim)
        if sent is not None:
            present &= along(sent, values.ndim)
        present = jnp.broadcast_to(present, values.shape)
        count = present.sum(axis=0)
        # Where none was sent the fallback is selected.
        cut = _left_out(trim, count)
        # Missing values sort to the end as inf, beyond the ranks that are used.
        ranked = jnp.sort(jnp.where(present, values, jnp.inf), axis=0)
        rank = along(jnp.arange(clients), values.ndim)
        # With beta = 0 all are used: the mean over those who sent.
        used = (rank >= cut[None]) & (rank < (count - cut)[None])
        mean = jnp.where(used, ranked, 0.0).sum(axis=0) / jnp.maximum(
            used.sum(axis=0), 1
        )
        return jnp.where(count > 0, mean, old).astype(old.dtype)

    return jax.tree.map(
        trim_leaf, received.sent, received.model, fallback, is_leaf=lambda x: x is None
    )


def trim_warnings(config: Any, senders: float) -> tuple[str, ...]:
    """Returns warnings of a trimmed mean that leaves nobody out, or drops weights.

    Args:
      config: of a method, with `trim` and `client_weight`; of a `trim` that is traced
        there is nothing to say.
      senders: how many of a cohort send an entry, at least on average.
    """
    trim, found = config.trim, []
    if trim is None or not is_plain(trim):
        return ()
    # Numbers, also where a program that builds the method is being traced.
    with jax.ensure_compile_time_eval():
        nobody = not int(_left_out(trim, jnp.int32(senders)))
    if trim > 0 and nobody:
        found.append(
            f"trim={trim}: of {senders:g} clients, as many as send an entry on "
            "average, none is left out"
        )
    if config.client_weight == "examples":
        found.append(f"trim={trim}: clients count alike, client_weight has no effect")
    return tuple(found)


def combine(
    over_clients: ClientMap,
    function: Callable[..., tuple[Received, Any]],
    shared: tuple[Any, ...],
    stacked: tuple[Any, ...],
    *,
    fallback: Any,
    trim: Any,
) -> tuple[Any, Any]:
    """Runs a function of each client and combines the models that it returns.

    Args:
      over_clients: how clients are mapped.
      function: `function(*shared, *stacked) -> (Received, own)` of one client.
      shared: arguments that all clients share.
      stacked: leaves `[K, ...]`.
      fallback: leaves `[...]`, the values of entries that no client sent.
      trim: None for the weighted mean over the clients that sent; else as for
        `trimmed_mean`.

    Returns:
      The model, and own results `[K, ...]`.
    """
    if trim is not None:
        # Ranking needs the models of all K clients; a mean needs only a running sum.
        received, own = over_clients.map(function, *shared)(*stacked)
        return trimmed_mean(received, fallback, trim=trim), own

    def term(*arguments):
        received, own = function(*arguments)
        return share(*received), own

    # Rejected clients have weight 0 but are mapped, too: shapes do not depend on them.
    shares, own = over_clients.total(term, *shared)(*stacked)
    return mean_of_shares(shares, fallback), own
