"""Averages over the clients of a cohort; every tree has the client axis first."""

from typing import Any

import chex
import jax
import jax.numpy as jnp


def client_weights(num_examples: jax.Array, *, by: str) -> jax.Array:
    """The weight omega_k of each client in an average.

    Args:
      num_examples: `[K]` examples each client owns, 0 for a padded client.
      by: "equal", or "examples" for weights proportional to them.

    Returns:
      `[K]` float32, summing to 1; a padded client has weight 0.
    """
    chex.assert_rank(num_examples, 1)
    share = num_examples if by == "examples" else num_examples > 0
    share = share.astype(jnp.float32)
    return share / jnp.maximum(share.sum(), 1.0)


def _along(weights: jax.Array, leaf: jax.Array) -> jax.Array:
    """`[K]` reshaped so that it broadcasts over a leaf `[K, ...]`."""
    return weights.reshape(-1, *[1] * (leaf.ndim - 1))


def weighted_mean(trees: Any, weights: jax.Array) -> Any:
    """The weighted mean over clients, sum_k omega_k x_k.

    Args:
      trees: leaves `[K, ...]`.
      weights: `[K]`, summing to 1. A client of weight 0 has no influence, whatever
        values it holds.

    Returns:
      Leaves `[...]`, of the same dtypes.
    """
    chex.assert_rank(weights, 1)

    def mean(leaf):
        weight = _along(weights, leaf)
        terms = jnp.where(weight > 0, weight * leaf, 0.0)
        return terms.sum(axis=0).astype(leaf.dtype)

    return jax.tree.map(mean, trees)


def mean_of_senders(trees: Any, sent: Any, weights: jax.Array, fallback: Any) -> Any:
    """The mean over those who sent, and the old value where nobody did.

    `sum_k omega_k a_k x_k / sum_k omega_k a_k`, else the fallback (Entropy 2023, 25,
    1205, eq. (3), reconstructed).

    Args:
      trees: leaves `[K, ...]`.
      sent: the same structure, leaves that broadcast against those of `trees`: `[K]`
        flags a_k for whole leaves, or masks for single entries; None where all sent.
      weights: `[K]`.
      fallback: the same structure without the client axis.

    Returns:
      Leaves `[...]`.
    """
    chex.assert_rank(weights, 1)

    def mean(flags, leaf, old):
        if flags is None:
            flags = jnp.ones_like(weights)
        flags = flags.reshape(flags.shape + (1,) * (leaf.ndim - flags.ndim))
        share = _along(weights, leaf) * flags
        total = share.sum(axis=0)
        terms = jnp.where(share > 0, share * leaf, 0.0).sum(axis=0)
        averaged = terms / jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, averaged, old).astype(leaf.dtype)

    return jax.tree.map(mean, sent, trees, fallback, is_leaf=lambda x: x is None)


def broadcast(tree: Any, num_clients: int) -> Any:
    """One copy of the tree for each of K clients, leaves `[K, ...]`."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_clients, *leaf.shape)), tree
    )
