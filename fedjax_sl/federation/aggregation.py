"""Averages over the clients of a cohort; every tree has the client axis first."""

from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice


ClientWeight = Literal["equal", "examples"]


def client_weights(num_examples: jax.Array, *, by: ClientWeight) -> jax.Array:
    """Computes the weight omega_k of each client in an average.

    Args:
      num_examples: `[K]` examples each client owns, 0 for a padded client.
      by: "equal", or "examples" for weights proportional to them.

    Returns:
      `[K]` float32, summing to 1; a padded client has weight 0.
    """
    check_choice("by", by, ClientWeight)
    chex.assert_rank(num_examples, 1)
    share = num_examples if by == "examples" else num_examples > 0
    share = share.astype(jnp.float32)
    # The guard is for a cohort of padding alone: its weights are 0, not NaN.
    return share / jnp.maximum(share.sum(), 1.0)


def _along(weights: jax.Array, leaf: jax.Array) -> jax.Array:
    """Reshapes `[K]` to broadcast over a leaf `[K, ...]`."""
    return weights.reshape(-1, *[1] * (leaf.ndim - 1))


def weighted_mean(trees: Any, weights: jax.Array) -> Any:
    """Computes the weighted mean over clients, sum_k omega_k x_k.

    Args:
      trees: leaves `[K, ...]`.
      weights: `[K]`, summing to 1. A client of weight 0 has no influence, whatever its
        values.

    Returns:
      Leaves `[...]`, of the same dtypes.
    """
    chex.assert_rank(weights, 1)

    def mean(leaf):
        weight = _along(weights, leaf)
        # A select, not only a product: 0 * nan is nan.
        terms = jnp.where(weight > 0, weight * leaf, 0.0)
        return terms.sum(axis=0).astype(leaf.dtype)

    return jax.tree.map(mean, trees)


class Share(NamedTuple):
    """A client's term in a mean over senders, or the sum of such terms.

    Attributes:
      value: omega_k a_k x_k, leaves `[...]`.
      weight: omega_k a_k, leaves that broadcast against those of `value`.
    """

    value: Any
    weight: Any


def share(tree: Any, sent: Any, weight: jax.Array) -> Share:
    """Computes one client's term in a mean over the clients that sent.

    Args:
      tree: x_k, leaves `[...]`.
      sent: a_k, the same structure: [] flags for whole leaves, or masks for single
        entries; None for leaves that were sent entirely.
      weight: [] omega_k. A client of weight 0 adds nothing, whatever its values.

    Returns:
      Its `Share`.
    """
    chex.assert_rank(weight, 0)
    given = jax.tree.map(
        lambda flag: weight if flag is None else weight * flag, sent, is_leaf=_none
    )

    def value(part, leaf):
        part = jnp.broadcast_to(part, leaf.shape)
        # As in `weighted_mean`: 0 * nan is nan.
        return jnp.where(part > 0, part * leaf, 0.0)

    return Share(jax.tree.map(value, given, tree), given)


def mean_of_shares(shares: Share, fallback: Any) -> Any:
    """Computes the mean over the clients that sent; the fallback where none did.

    `sum_k omega_k a_k x_k / sum_k omega_k a_k`, else the fallback (Entropy 2023, 25,
    1205, eq. (3), reconstructed).

    Args:
      shares: summed over clients.
      fallback: leaves `[...]`.

    Returns:
      Leaves `[...]`, of the fallback's dtypes.
    """

    def mean(value, weight, old):
        weight = jnp.broadcast_to(weight, value.shape)
        # The inner select avoids 0 / 0; the outer one takes the fallback there.
        averaged = value / jnp.where(weight > 0, weight, 1.0)
        return jnp.where(weight > 0, averaged, old).astype(old.dtype)

    return jax.tree.map(mean, shares.value, shares.weight, fallback)


# JAX takes None for a tree without leaves; in `sent` it is a leaf that means all.
def _none(x: Any) -> bool:
    return x is None


def broadcast(tree: Any, num_clients: int) -> Any:
    """Copies the tree for each of K clients, leaves `[K, ...]`."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_clients, *leaf.shape)), tree
    )


def choose(condition: jax.Array, new: Any, old: Any) -> Any:
    """Selects one of two trees, leaves `[...]`, by a condition `[]`."""
    # Both trees are already computed: a cond would save nothing.
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
