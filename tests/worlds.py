"""A world small enough to check by other means: four stages and few images."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedjax_sl.algorithm import Batch, Cohort, Examples
from fedjax_sl.data import Dataset, Partition, iid
from fedjax_sl.data.cohort import take
from fedjax_sl.fedsl import fedsl
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.fedlp_cnn import ConvBlock
from fedjax_sl.models.split import apply, cut_at
from fedjax_sl.models.vgg import ConvStage


CLASSES = 3
SHAPE = (8, 8, 2)


@cache
def tiny_model(cut=2, norm="none"):
    """Three convolutions and a dense layer, cut after stage 1 to 3."""
    # The plain lowering is compiled in a fifth less time; they are compared elsewhere.
    stages = (
        partial(ConvStage, 4, norm, False, "xla"),
        partial(ConvStage, 6, norm, True, "xla"),
        partial(ConvStage, 8, norm, True, "xla"),
        partial(DenseStage, CLASSES, last=True),
    )
    return cut_at(stages, cut, input_shape=SHAPE, num_classes=CLASSES)


class TwoBlocks(nn.Module):
    """Two convolutions with batch norms, and a dense layer."""

    @nn.compact
    def __call__(self, x, train, weight=None):
        weight = jnp.ones(x.shape[0]) if weight is None else weight
        x = ConvBlock(2, False, "xla", name="block1")(x, train, weight)
        x = ConvBlock(3, True, "xla", name="block2")(x, train, weight)
        return nn.Dense(CLASSES, name="fc")(x.reshape(x.shape[0], -1))


@cache
def programs(model=None):
    """Compiled `init(config, key)` and `round(config, state, cohort, key)`.

    Settings are arguments, so that tests which change only numbers share a program.
    """
    model = model or tiny_model()
    init = jax.jit(lambda config, key: fedsl(model, config).init(key))
    return init, jax.jit(lambda config, *rest: fedsl(model, config).round(*rest))


@partial(jax.jit, static_argnums=1)
def _cohort(key, batch, ids):
    def one(client):
        image_key, label_key = jax.random.split(jax.random.fold_in(key, client))
        image = jax.random.normal(image_key, (1, batch, *SHAPE))
        label = jax.random.randint(label_key, (1, batch), 0, CLASSES)
        return Batch(image, label, jnp.ones((1, batch)))

    return jax.vmap(one)(ids)


def cohort_of(ids, batches, num_examples):
    """A cohort with these batches, leaves `[K, S, B, ...]`."""
    shape = batches.label.shape
    flat = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[3:]), batches)
    return Cohort(
        client_id=jnp.asarray(ids, jnp.int32),
        index=jnp.arange(flat.label.size).reshape(shape),
        weight=batches.weight,
        num_examples=jnp.asarray(num_examples, jnp.int32),
        examples=Examples(flat.image, flat.label),
    )


def batches_of(cohort):
    """The batches of a cohort, leaves `[K, S, B, ...]`."""
    return take(cohort.examples, cohort.index, cohort.weight)


def with_batches(cohort, batches):
    """The cohort with other batches."""
    return cohort_of(cohort.client_id, batches, cohort.num_examples)


def tiny_cohort(key, clients=4, batch=5, ids=None):
    """A cohort of random images; client k's batch depends on who it is."""
    ids = jnp.arange(clients) if ids is None else jnp.asarray(ids)
    batches = _cohort(key, batch, ids)
    return cohort_of(ids, batches, jnp.full(ids.shape, batch))


def tiny_dataset(size=48):
    """Images whose class is which third of the rows is bright."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, size).astype(np.int32)
    image = rng.integers(0, 60, (size, *SHAPE)).astype(np.uint8)
    for row, kind in zip(image, label, strict=True):
        row[3 * kind : 3 * kind + 2] += 150
    return Dataset(
        image=image, label=label, name="tiny", class_names=("low", "middle", "high")
    )


def tiny_partition(dataset, clients=4) -> Partition:
    """The data set shared out evenly."""
    return iid(np.random.default_rng(1), dataset.label, clients)


def played(key, config, rounds=2):
    """The state after some rounds of FedSL, and the metrics of each."""
    init, round = programs()
    state, found = init(config, key), []
    for number in range(rounds):
        state, metrics = round(
            config, state, tiny_cohort(key), jax.random.fold_in(key, number)
        )
        found.append(metrics)
    return state, found


def joined_loss(model, client, server, batch):
    """Mean loss of one client's batch through the uncut network."""
    activations, _ = apply(model.client, {"params": client}, batch.image, train=True)
    logits, _ = apply(model.server, {"params": server}, activations, train=True)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.label[:, None], 1)
    return -picked.mean()


def assert_close(left, right, tolerance=1e-5):
    """Equal up to the rounding of float32 sums."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def assert_equal(left, right):
    """Equal bit for bit."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)
