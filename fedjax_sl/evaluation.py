"""Accuracy and loss of a model on a whole split."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.data.cohort import normalize
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.errors import InputError


class Evaluation(NamedTuple):
    """Metrics of a model on a whole split.

    Attributes:
      accuracy: [] share of examples classified correctly.
      balanced_accuracy: [] recall, averaged over the classes that occur.
      loss: [] mean cross-entropy.
    """

    accuracy: jax.Array
    balanced_accuracy: jax.Array
    loss: jax.Array


def evaluate(
    predict: Callable[[State, jax.Array], jax.Array],
    state: State,
    dataset: Dataset,
    *,
    batch_size: int = 500,
) -> Evaluation:
    """Computes accuracy and loss over a whole split, batch by batch.

    Args:
      predict: `predict(state, images) -> logits`, `[B, C]`; or `[M, B, C]` of M models,
        over which every metric is averaged.
      state: the state.
      dataset: n examples.
      batch_size: images at a time.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: if the model has fewer classes than the data set.
    """
    size, classes = len(dataset.label), dataset.num_classes
    # Else a small split would be padded to a whole batch.
    batch_size = min(batch_size, size)
    steps = -(-size // batch_size)
    indices = jnp.arange(steps * batch_size).reshape(steps, batch_size)
    # NumPy arrays cannot be indexed by what a scan traces.
    images = jnp.asarray(dataset.image)
    labels = jnp.asarray(dataset.label, jnp.int32)

    def add_batch(sums, index):
        # The last batch is padded with the last example, at weight 0.
        real = (index < size).astype(jnp.float32)
        index = jnp.minimum(index, size - 1)
        label = labels[index]
        # By batch: a set of bytes stays so, at a quarter of what float32 takes.
        logits = predict(state, normalize(images[index]))
        # In a program a label beyond the logits raises nothing.
        if logits.shape[-1] < classes:
            raise InputError(
                f"{classes} classes: expected at most {logits.shape[-1]}, as the model "
                "tells apart."
            )
        losses, hits = _scored(logits, label)
        new = (
            jnp.zeros(classes).at[label].add(hits * real),
            jnp.zeros(classes).at[label].add(real),
            (losses * real).sum(),
        )
        return jax.tree.map(jnp.add, sums, new), None

    # float32 counts up to 2^24 examples exactly.
    zero = (jnp.zeros(classes), jnp.zeros(classes), jnp.float32(0))
    (hits, seen, loss), _ = jax.lax.scan(add_batch, zero, indices)
    # A class without examples has recall 0 here, and is left out of the mean below.
    recall = hits / jnp.maximum(seen, 1.0)
    present = jnp.maximum((seen > 0).sum(), 1)
    return Evaluation(hits.sum() / size, recall.sum() / present, loss / size)


def _scored(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses and hits of examples, `[B]` each; of several models, their means."""
    if logits.ndim > 2:
        # Metrics are averaged, not logits: those would make an ensemble, which no
        # client has.
        each = jax.vmap(_scored, in_axes=(0, None))(logits, label)
        return jax.tree.map(lambda x: x.mean(axis=0), each)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return losses, logits.argmax(axis=-1) == label


def evaluate_views(
    algorithm: Algorithm, state: State, dataset: Dataset
) -> dict[str, Evaluation]:
    """Evaluates the global model, under "", and every further view."""
    views = {"": algorithm.predict, **algorithm.views}
    return {name: evaluate(predict, state, dataset) for name, predict in views.items()}
