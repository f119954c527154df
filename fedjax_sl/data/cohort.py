"""Drawing clients and their batches, inside the compiled program.

Every draw is keyed by who the client is and which of its epochs it is in, never by its
place in the cohort, so that what a client sees does not depend on who else takes part.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Batch, Cohort
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset


CLIENTS, EXAMPLES = range(2)
"""Purposes, folded into keys."""


def normalize(image: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return (image.astype(jnp.float32) / 255.0 - 0.5) / 0.5


def draw_clients(key: jax.Array, *, num_clients: int, cohort_size: int) -> jax.Array:
    """K of N clients without replacement; all of them, in order, if K = N.

    Args:
      key: a key used here only.
      num_clients: N.
      cohort_size: K <= N.

    Returns:
      `[K]` int32.

    Raises:
      ValueError: if the cohort is larger than the number of clients.
    """
    if not 1 <= cohort_size <= num_clients:
        raise ValueError(
            f"cohort_size={cohort_size}: expected 1 to {num_clients} clients."
        )
    if cohort_size == num_clients:
        return jnp.arange(num_clients, dtype=jnp.int32)
    chosen = jax.random.permutation(key, num_clients)[:cohort_size]
    return jnp.sort(chosen).astype(jnp.int32)


def _shuffled(key, client_id, epoch, index, count):
    """`[M]` a client's own examples in the order of one epoch, padding last."""
    for part in (EXAMPLES, client_id, epoch):
        key = jax.random.fold_in(key, part)
    draws = jax.random.uniform(key, index.shape)
    padding = jnp.arange(index.size) >= count
    return index[jnp.argsort(jnp.where(padding, 2.0, draws))]


def _gather(dataset: Dataset, index: jax.Array, weight: jax.Array) -> Batch:
    """Images and labels of an array of indices, normalised."""
    images, labels = jnp.asarray(dataset.image), jnp.asarray(dataset.label)
    index = jnp.maximum(index, 0)
    return Batch(normalize(images[index]), labels[index], weight.astype(jnp.float32))


def draw_minibatches(
    key: jax.Array,
    dataset: Dataset,
    partition: Partition,
    *,
    round: Any,
    period: Any,
    cohort_size: int,
    batch_size: int,
) -> Cohort:
    """One mini-batch for each client of the cohort (S = 1).

    A client goes through its examples in an order drawn anew for each epoch, leaving
    out the last incomplete batch; one with fewer than B gives all it has and padding.

    Args:
      key: of the whole run.
      dataset: images and labels.
      partition: who owns which example.
      round: [] int32, t.
      period: [] int32; clients are drawn anew when it changes.
      cohort_size: K.
      batch_size: B.

    Returns:
      The cohort, batches with leading axes `[K, 1, B]`.
    """
    owners, counts = jnp.asarray(partition.index), jnp.asarray(partition.count)
    client_key = jax.random.fold_in(jax.random.fold_in(key, CLIENTS), period)
    client_id = draw_clients(
        client_key, num_clients=owners.shape[0], cohort_size=cohort_size
    )
    short = max(0, batch_size - owners.shape[1])
    owners = jnp.pad(owners, ((0, 0), (0, short)), constant_values=-1)

    def one(client):
        count = counts[client]
        batches = jnp.maximum(count // batch_size, 1)
        order = _shuffled(key, client, round // batches, owners[client], count)
        first = (round % batches) * batch_size
        mine = jax.lax.dynamic_slice_in_dim(order, first, batch_size)
        return mine[None], (first + jnp.arange(batch_size) < count)[None]

    index, weight = jax.vmap(one)(client_id)
    return Cohort(client_id, _gather(dataset, index, weight), counts[client_id])


def draw_epochs(
    key: jax.Array,
    dataset: Dataset,
    partition: Partition,
    *,
    round: Any,
    period: Any,
    cohort_size: int,
    batch_size: int,
    epochs: int,
) -> Cohort:
    """E epochs over all examples of each client of the cohort.

    Args:
      key, dataset, partition, round, period, cohort_size, batch_size: as for
        `draw_minibatches`.
      epochs: E.

    Returns:
      The cohort, batches with leading axes `[K, S, B]`, S = E ceil(M / B): in each
      epoch every example once, then padding.
    """
    owners, counts = jnp.asarray(partition.index), jnp.asarray(partition.count)
    client_key = jax.random.fold_in(jax.random.fold_in(key, CLIENTS), period)
    client_id = draw_clients(
        client_key, num_clients=owners.shape[0], cohort_size=cohort_size
    )
    steps = -(-owners.shape[1] // batch_size)
    short = steps * batch_size - owners.shape[1]
    owners = jnp.pad(owners, ((0, 0), (0, short)), constant_values=-1)

    def one(client, epoch):
        order = _shuffled(key, client, epoch, owners[client], counts[client])
        weight = jnp.arange(order.size) < counts[client]
        return order.reshape(steps, -1), weight.reshape(steps, -1)

    numbers = round * epochs + jnp.arange(epochs)
    index, weight = jax.vmap(
        lambda client: jax.vmap(lambda epoch: one(client, epoch))(numbers)
    )(client_id)
    shape = (cohort_size, epochs * steps, batch_size)
    batches = _gather(dataset, index.reshape(shape), weight.reshape(shape))
    return Cohort(client_id, batches, counts[client_id])
