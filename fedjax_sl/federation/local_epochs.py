"""One client's local epochs."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from fedjax_sl.algorithm import Batch, Examples
from fedjax_sl.data.cohort import take
from fedjax_sl.federation.server_pass import mean_loss
from fedjax_sl.models.split import Variables


Adjust = Callable[[Any, Any], Any]
"""`adjust(grad, params)` -> the gradient that the optimiser takes."""

Load = Callable[[jax.Array, jax.Array, jax.Array], Batch]
"""`load(step, index, weight)` -> the batch of a step, `[B, ...]`."""


def local_epochs(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    examples: Examples,
    index: jax.Array,
    weight: jax.Array,
    *,
    load: Load | None = None,
    adjust: Adjust | None = None,
) -> tuple[Variables, jax.Array]:
    """Trains one client, with one step on each of its batches.

    Batches of padding alone are skipped, and take no time if clients are mapped
    sequentially.

    Args:
      model: `(images, train, weight) -> logits`.
      optimizer: of the local steps; its state is initialised here.
      variables: `params`, and `batch_stats` if the model has any.
      examples: of all clients.
      index: `[S, B]`, indices of the client's examples.
      weight: `[S, B]`, 0 for padding.
      load: gathers the batch of a step, as for augmented images; as they are if not
        given.
      adjust: changes each gradient; as they are if not given.

    Returns:
      The variables, and the mean loss over the batches before each step.
    """
    chex.assert_rank([examples.image, index, weight], [4, 2, 2])
    load = load or (lambda _, *of_step: take(examples, *of_step))
    real = (weight > 0).any(axis=1)
    # A stable sort moves batches of padding to the end, where the loop never gets.
    order, steps = jnp.argsort(~real), real.sum()

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
        chosen = order[number]
        # By its number in the epochs, not in the loop: augmentation is keyed by it.
        batch = load(chosen, index[chosen], weight[chosen])
        params = variables["params"]
        (loss, changed), grad = jax.value_and_grad(objective, has_aux=True)(
            params, variables, batch
        )
        grad = grad if adjust is None else adjust(grad, params)
        updates, opt = optimizer.update(grad, opt, params)
        params = optax.apply_updates(params, updates)
        return {**variables, **changed, "params": params}, opt, losses + loss

    start = (variables, optimizer.init(variables["params"]), jnp.zeros(()))
    # A loop of traced length; a scan would run the batches of padding, too.
    trained, _, losses = jax.lax.fori_loop(0, steps, step, start)
    # A client without a batch has loss 0, not 0 / 0.
    return trained, losses / jnp.maximum(steps, 1)
