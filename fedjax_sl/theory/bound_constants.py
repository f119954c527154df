"""Estimates the constants of FedSL's bound along a trajectory of models."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_sl.algorithm import Cohort
from fedjax_sl.analysis.fedsl_bound import Constants
from fedjax_sl.compression.dropout import drop_activations
from fedjax_sl.data.cohort import take
from fedjax_sl.errors import InputError
from fedjax_sl.models.split import SplitModel, SplitParams, apply


class Estimate(NamedTuple):
    """Estimated constants, and the gradients that they come from.

    Attributes:
      constants: constants of the bound.
      squared_gradient: `[P]` |grad f(w)|^2 at each point, over the given batches.
    """

    constants: Constants
    squared_gradient: np.ndarray


def _params(point: SplitParams) -> dict[str, Any]:
    """Returns the parameters by layer, in network order."""
    both = {**point.client["params"], **point.server["params"]}
    # Names of stages begin with two digits of their number.
    return {name: both[name] for name in sorted(both)}


def _loss(
    model: SplitModel, params: dict[str, Any], point: SplitParams, batch, *, drop
):
    """Returns the mean loss of a batch; norms use batch statistics."""
    halves = [
        {**half, "params": {name: params[name] for name in half["params"]}}
        for half in point
    ]
    real = batch.weight
    cut, _ = apply(model.client, halves[0], batch.image, real, train=True)
    logits, _ = apply(model.server, halves[1], drop(cut), real, train=True)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    # A batch of padding only has no weight.
    return (losses * batch.weight).sum() / jnp.maximum(batch.weight.sum(), 1)


def _squares(tree: dict[str, Any]) -> jax.Array:
    """Returns the squared norm of each layer, `[L]`."""
    return jnp.stack(
        [
            sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(layer))
            for layer in tree.values()
        ]
    )


class _Dropout(NamedTuple):
    """Dropout at the cut: its probability, and the key of all draws."""

    rate: float
    key: jax.Array


@partial(jax.jit, static_argnums=0)
def _moments_at(
    model: SplitModel, point: SplitParams, cohort: Cohort, dropout: _Dropout
):
    """Returns moments of the mini-batch gradients at one point.

    Activations are dropped at the cut anew for each batch.

    Returns:
      Mean loss []; E|g|^2 and variance, each `[L]` and the largest over clients; the
      mean gradient over clients; and the parameters by layer.
    """
    params = _params(point)

    def client(batches):
        def gradient(batch):
            index, weight, key = batch
            examples = take(cohort.examples, index, weight)

            def drop(x):
                return drop_activations(key, x, rate=dropout.rate)[0]

            loss, grad = jax.value_and_grad(
                lambda params: _loss(model, params, point, examples, drop=drop)
            )(params)
            return loss, _squares(grad), grad

        losses, squares, grads = jax.lax.map(gradient, batches)
        mean = jax.tree.map(lambda x: x.mean(axis=0), grads)
        steps = len(losses)
        # The unbiased variance, from E|g|^2 - |E g|^2.
        spread = (squares.mean(axis=0) - _squares(mean)) * steps / (steps - 1)
        return losses.mean(), squares.mean(axis=0), spread, mean

    keys = jax.random.split(dropout.key, cohort.index.shape[:2])
    batches = (cohort.index, cohort.weight, keys)
    # One after another: memory holds the batch gradients of a single client.
    losses, squares, spread, grads = jax.lax.map(client, batches)
    mean = jax.tree.map(lambda x: x.mean(axis=0), grads)
    # The largest over clients: the theorem assumes them of each.
    return losses.mean(), squares.max(axis=0), spread.max(axis=0), mean, params


def _moments(model: SplitModel, points: Sequence[SplitParams], cohort: Cohort, rate):
    # One key, so that dropout and thus noise are the same at every point.
    dropout = _Dropout(rate, jax.random.key(0))
    return [jax.device_get(_moments_at(model, p, cohort, dropout)) for p in points]


def _largest(moments) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest G_j^2 and sigma_j^2 over all points, `[L]` each."""
    gradient, variance = (np.max([at[n] for at in moments], axis=0) for n in (1, 2))
    return gradient.astype(np.float64), variance.astype(np.float64)


def under_dropout(
    constants: Constants,
    model: SplitModel,
    points: Sequence[SplitParams],
    cohort: Cohort,
    *,
    rate: float,
) -> Constants:
    """Returns the constants of the loss averaged over dropout at the cut.

    Dropout makes gradients noisier: G_j^2 and sigma_j^2 are estimated under it, and are
    no smaller than without it. beta, the gap and D_j^2 are assumed to stay.

    Args:
      constants: constants without dropout.
      model: the network, cut where activations are dropped.
      points: as for `estimate`, of this cut.
      cohort: as for `estimate`.
      rate: p; remaining activations are rescaled.

    Returns:
      The constants; unchanged at rate 0.
    """
    if not rate:
        return constants
    gradient, variance = _largest(_moments(model, points, cohort, rate))
    return constants._replace(
        gradient=np.maximum(constants.gradient, gradient),
        variance=np.maximum(constants.variance, variance),
    )


def estimate(
    model: SplitModel, points: Sequence[SplitParams], cohort: Cohort
) -> Estimate:
    """Estimates the constants of the bound from gradients along a run's trajectory.

    They are maxima over points and clients, which no finite sample can prove: G_j^2 and
    sigma_j^2 of mini-batch gradients, D_j^2 of weights, beta as the largest
    `|grad f(w) - grad f(v)| / |w - v|` between points, a lower estimate, and the gap as
    f(w_0), since the loss is at least 0.

    Args:
      model: the network.
      points: P >= 2 models, in the order of the trajectory.
      cohort: mini-batches, `[K, S, B]` with S >= 2, the same at every point.

    Returns:
      An `Estimate` for the L layers.

    Raises:
      ValueError: if there are too few points or batches.
    """
    if len(points) < 2 or cohort.index.shape[1] < 2:
        raise InputError(
            f"{len(points)} points, {cohort.index.shape[1]} batches: expected 2 each."
        )
    moments = _moments(model, points, cohort, 0.0)

    def distance(a, b) -> float:
        return float(
            np.sqrt(
                sum(
                    np.sum((x - y) ** 2, dtype=np.float64)
                    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
                )
            )
        )

    # Points may coincide, if nothing is learned between them.
    slopes = [
        distance(a[3], b[3]) / max(distance(a[4], b[4]), 1e-12)
        for n, a in enumerate(moments)
        for b in moments[:n]
    ]
    weights = [np.asarray(_squares(at[4])) for at in moments]
    gradient, variance = _largest(moments)
    constants = Constants(
        smoothness=max(slopes),
        gap=float(moments[0][0]),
        variance=variance,
        gradient=gradient,
        weight=np.max(weights, axis=0).astype(np.float64),
    )
    # Of the mean over clients, the gradient that the theorem bounds.
    squared = [float(_squares(at[3]).sum()) for at in moments]
    return Estimate(constants, np.array(squared))
