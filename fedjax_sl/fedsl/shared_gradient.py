"""One gradient at the cut for all clients: gradient aggregation (SFL-GA).

The server averages the gradients of the activations over the clients, by position in
the mini-batch, and broadcasts the mean; each client propagates it back through its own
half, at its own activations (arXiv 2501.01078).
"""

import jax
import jax.numpy as jnp

from fedjax_sl.federation.aggregation import mean_of_shares, share


def sent_entries(mask: jax.Array, real: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Marks the activations that clients sent, `[K, B, ...]` bool.

    Args:
      mask: of the dropout and of pruned channels, broadcasts against `shape`.
      real: `[K, B]` bool, False for padding.
      shape: `(K, B, ...)`.

    Returns:
      Bool of this shape.
    """
    real = real.reshape(*real.shape, *[1] * (len(shape) - 2))
    # Padding is not sent: zeros of it would weigh down the gradients of others.
    return jnp.broadcast_to(mask & real, shape)


def mean_gradient(grad: jax.Array, sent: jax.Array, weights: jax.Array) -> jax.Array:
    """Averages the gradients at the cut over the clients that sent an activation.

    `sum_k omega_k a_k s_k / sum_k omega_k a_k`, entry by entry, a_k whether client k
    sent it (arXiv 2501.01078, where all do; else reconstructed).

    Args:
      grad: `[K, B, ...]` s_k, of each client's own loss.
      sent: the same shape, bool a_k.
      weights: `[K]` omega_k, 0 for a client that is absent or was not heard.

    Returns:
      `[B, ...]`; 0 where no client sent an activation.
    """
    # Of one client it is its own gradient: tests/fedsl/test_shared_gradient.py.
    total = jax.tree.map(lambda x: x.sum(axis=0), jax.vmap(share)(grad, sent, weights))
    return mean_of_shares(total, jnp.zeros(grad.shape[1:], grad.dtype))


def number_broadcast(sent: jax.Array, finite: jax.Array) -> jax.Array:
    """Counts the values that the server broadcasts, for each client that participates.

    Every one of them receives the message, and is charged for all of it.

    Args:
      sent: `[K, B, ...]` bool, as from `sent_entries`.
      finite: `[K]` bool, the clients whose activations arrived finite: the mean has no
        entries that only others sent.

    Returns:
      `[K]` int32, 0 for a client that sent nothing.
    """
    present = sent.any(axis=tuple(range(1, sent.ndim)))
    of_mean = sent & finite.reshape(-1, *[1] * (sent.ndim - 1))
    return of_mean.any(axis=0).sum(dtype=jnp.int32) * present
