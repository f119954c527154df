"""Draws a cohort, clients and their batches, inside the compiled program.

A draw is keyed by its client and epoch, never by an index in the cohort, so that a
client's batches do not depend on which other clients participate.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Batch, Cohort, Examples
from fedjax_sl.checks import check_integer
from fedjax_sl.data.checks import check_image_dtype, check_partition
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.selection import Choose, clients_of
from fedjax_sl.errors import InputError


EXAMPLES = 1
"""Purpose, folded into keys; `selection` has 0."""


def normalize(image: jax.Array) -> jax.Array:
    """Normalises images, the same way for training and evaluation.

    uint8 becomes (x / 255 - 0.5) / 0.5 in [-1, 1]; float32 is normalised already, and
    is returned unchanged.

    Args:
      image: any shape.

    Returns:
      The same shape, float32.

    Raises:
      ValueError: if the images are of another dtype.
    """
    check_image_dtype(image)
    # As FedLP's code, for every data set: a mean and a deviation of the images would be
    # statistics of all clients' data.
    if image.dtype == jnp.uint8:
        return (image.astype(jnp.float32) / 255 - 0.5) / 0.5
    return image


def take(examples: Examples, index: jax.Array, weight: jax.Array) -> Batch:
    """Gathers the batch at these indices.

    Args:
      examples: n examples.
      index: `[..., B]` int32 in 0..n-1.
      weight: `[..., B]`, 0 for padding.

    Returns:
      A `Batch` with leading axes `[..., B]`, its images normalised.
    """
    # Normalised after the gather: the data set stays uint8 in memory.
    image = normalize(examples.image[index])
    return Batch(image, examples.label[index], weight)


def check_images(image: jax.Array, shape: tuple[int, ...]) -> None:
    """Rejects images that are not of the shape `(H, W, Ch)` of a model's input.

    Raises:
      ValueError: naming both shapes.
    """
    if image.shape[1:] != tuple(shape):
        raise InputError(
            f"images of shape {image.shape[1:]}: expected {tuple(shape)}, as the model "
            "takes them."
        )


def draw_minibatches(
    key: jax.Array,
    dataset: Dataset,
    partition: Partition,
    *,
    round: Any,
    period: Any,
    cohort_size: int,
    batch_size: int,
    choose: Choose | None = None,
) -> Cohort:
    """Draws one mini-batch for each client of the cohort (S = 1).

    A client with c examples has max(floor(c / B), 1) batches an epoch, in an order that
    is redrawn for each epoch; the last incomplete batch is dropped. If c < B, the batch
    holds all c examples and padding. The batch follows from the round t: epochs also
    pass for clients that do not participate.

    Args:
      key: of the whole run.
      dataset: n examples; its arrays should already be on the device.
      partition: of N clients.
      round: [] int32, t, may be traced.
      period: [] int32, may be traced; the clients are redrawn when it changes.
      cohort_size: K.
      batch_size: B.
      choose: the clients of a period; drawn uniformly if not given.

    Returns:
      The cohort, index and weight `[K, 1, B]`.

    Raises:
      ValueError: if `cohort_size` is not in 1..N, or the number of clients chosen, or
        the partition is none of these examples.
    """
    examples, partition = _on_device(dataset, partition)
    client_id = clients_of(
        key, len(partition.count), period, cohort_size, choose=choose
    )
    check_integer("batch_size", batch_size, 1)

    def minibatch(client):
        # At least one, by which the round is divided, also if c < B.
        batches = jnp.maximum(partition.count[client] // batch_size, 1)
        # By the round alone, so that no position has to be kept for each client.
        order = _order(key, partition, client, round // batches)
        position = round % batches * batch_size + jnp.arange(batch_size)
        # `[1, B]`: a method sees steps, one of them or those of whole epochs.
        return _select(order, position[None], partition.count[client])

    index, weight = jax.vmap(minibatch)(client_id)
    count = partition.count[client_id]
    return Cohort(client_id, index, weight, num_examples=count, examples=examples)


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
    choose: Choose | None = None,
) -> Cohort:
    """Draws E epochs over all examples of each client of the cohort.

    Args:
      key: of the whole run.
      dataset: n examples; its arrays should already be on the device.
      partition: of N clients with at most M examples each.
      round: [] int32, t, may be traced.
      period: [] int32, may be traced; the clients are redrawn when it changes.
      cohort_size: K.
      batch_size: B.
      epochs: E.
      choose: the clients of a period; drawn uniformly if not given.

    Returns:
      The cohort, index and weight `[K, S, B]`, S = E ceil(M / B): in each epoch every
      example of the client once, in a new order, then padding.

    Raises:
      ValueError: if `cohort_size` is not in 1..N, or the number of clients chosen, or
        the partition is none of these examples.
    """
    examples, partition = _on_device(dataset, partition)
    client_id = clients_of(
        key, len(partition.count), period, cohort_size, choose=choose
    )
    check_integer("batch_size", batch_size, 1)
    check_integer("epochs", epochs, 1)
    # From the largest client: shapes are static, and others get steps of padding.
    steps = -(-partition.index.shape[1] // batch_size)
    position = jnp.arange(steps * batch_size).reshape(steps, batch_size)

    def one_epoch(client, epoch):
        order = _order(key, partition, client, epoch)
        return _select(order, position, partition.count[client])

    def all_epochs(client):
        # Numbered over the whole run, so that no round repeats an order.
        numbers = round * epochs + jnp.arange(epochs)
        batches = jax.vmap(lambda epoch: one_epoch(client, epoch))(numbers)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)

    index, weight = jax.vmap(all_epochs)(client_id)
    count = partition.count[client_id]
    return Cohort(client_id, index, weight, num_examples=count, examples=examples)


def _on_device(dataset: Dataset, partition: Partition) -> tuple[Examples, Partition]:
    """Converts to JAX arrays, which a traced index can select from."""
    # First: in a program, an index out of range is clamped to another example.
    check_partition(*partition, num_examples=len(dataset.label))
    label = jnp.asarray(dataset.label, jnp.int32)
    examples = Examples(jnp.asarray(dataset.image), label)
    return examples, jax.tree.map(jnp.asarray, partition)


def _order(key, partition: Partition, client, epoch) -> jax.Array:
    """Draws the order of one client's examples in an epoch, then padding, `[M]`."""
    # One fold for each: two pairs with the same sum or product must not share a key.
    for identity in (EXAMPLES, client, epoch):
        key = jax.random.fold_in(key, identity)
    owned = partition.index[client]
    # A longer shape draws the same prefix, so that more padding changes no order.
    draws = jax.random.uniform(key, owned.shape)
    # Not `jax.random.permutation`, which would shuffle padding among the examples.
    # Draws are below 1, so padding sorts to the end.
    return owned[jnp.argsort(jnp.where(owned >= 0, draws, 2.0))]


def _select(order, position, count) -> tuple[jax.Array, jax.Array]:
    """Index and weight of one client's batches at `position` `[S, B]` of its order."""
    # Padding repeats the client's own examples, not those of another or zeros, so that
    # batch statistics stay its own; a client without any gets example 0.
    example = jnp.maximum(order[position % jnp.maximum(count, 1)], 0)
    return example, (position < count).astype(jnp.float32)
