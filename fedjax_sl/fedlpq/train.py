"""One client's local epochs."""

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from fedjax_sl.algorithm import Batch
from fedjax_sl.federation.split_grad import mean_loss
from fedjax_sl.models.split import Variables


def local_epochs(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    batches: Batch,
    num_examples: jax.Array,
    *,
    epochs: int,
) -> tuple[Variables, jax.Array]:
    """Trains for E epochs, an optimiser step on each of a client's own batches.

    Batches that are padding from end to end take no time where clients are mapped one
    after another.

    Args:
      model: `(images, train, weight) -> logits`.
      optimizer: of the local steps; begins anew.
      variables: `params`, and `batch_stats` if the model keeps any.
      batches: leaves `[S, B, ...]`, in each epoch the client's examples, then padding.
      num_examples: [] int32, how many it owns.
      epochs: E; divides S.

    Returns:
      The variables, and the mean loss over the batches before each step.
    """
    chex.assert_rank([batches.image, batches.label], [5, 2])
    chex.assert_is_divisible(len(batches.label), epochs)
    total, batch_size = batches.label.shape
    real = -(-num_examples // batch_size)

    def objective(params, rest, batch):
        logits, changed = model.apply(
            {**rest, "params": params},
            batch.image,
            True,
            batch.weight,
            mutable=["batch_stats"],
        )
        return mean_loss(logits, batch), changed

    def step(number, carry):
        variables, opt, losses = carry
        place = number // real * (total // epochs) + number % real
        batch = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), batches
        )
        params = variables["params"]
        (loss, changed), grad = jax.value_and_grad(objective, has_aux=True)(
            params, variables, batch
        )
        updates, opt = optimizer.update(grad, opt, params)
        params = optax.apply_updates(params, updates)
        return {**variables, **changed, "params": params}, opt, losses + loss

    start = (variables, optimizer.init(variables["params"]), jnp.float32(0))
    steps = epochs * real
    trained, _, losses = jax.lax.fori_loop(0, steps, step, start)
    return trained, losses / jnp.maximum(steps, 1)
