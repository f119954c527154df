"""The constants of the bound, as a network and its data show them at some points."""

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
    """What was found.

    Attributes:
      constants: of the bound.
      squared_gradient: |grad f(w)|^2 at each point, over the batches given.
    """

    constants: Constants
    squared_gradient: np.ndarray


def _params(point: SplitParams) -> dict[str, Any]:
    """Parameters by layer, in network order."""
    both = {**point.client["params"], **point.server["params"]}
    return {name: both[name] for name in sorted(both)}


def _loss(model: SplitModel, params: dict[str, Any], point: SplitParams, batch, drop):
    """Mean loss of a batch through the network; norms see the batch."""
    halves = [
        {**half, "params": {name: params[name] for name in half["params"]}}
        for half in point
    ]
    real = batch.weight
    cut, _ = apply(model.client, halves[0], batch.image, real, train=True)
    logits, _ = apply(model.server, halves[1], drop(cut), real, train=True)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    return (losses * batch.weight).sum() / jnp.maximum(batch.weight.sum(), 1)


def _squares(tree: dict[str, Any]) -> jax.Array:
    """Squared norm of each layer, `[L]`."""
    return jnp.stack(
        [
            sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(layer))
            for layer in tree.values()
        ]
    )


@partial(jax.jit, static_argnums=0)
def _seen_at(model: SplitModel, point: SplitParams, cohort: Cohort, rate, key):
    """Of one point: losses, squares and variances of gradients, and the mean gradient.

    Activations are dropped at the cut with a probability, anew for each batch.

    Returns:
      Mean loss []; E|g|^2 and variance `[L]`, each the largest over clients; the mean
      gradient over clients, and the squared norms of the weights.
    """
    params = _params(point)

    def batch_of(place):
        return take(cohort.examples, *place)

    def client(places):
        def one(place):
            *place, key = place

            def drop(x):
                return drop_activations(key, x, rate=rate)[0]

            loss, grad = jax.value_and_grad(
                lambda params: _loss(model, params, point, batch_of(place), drop)
            )(params)
            return loss, _squares(grad), grad

        losses, squares, grads = jax.lax.map(one, places)
        mean = jax.tree.map(lambda x: x.mean(axis=0), grads)
        steps = len(losses)
        spread = (squares.mean(axis=0) - _squares(mean)) * steps / (steps - 1)
        return losses.mean(), squares.mean(axis=0), spread, mean

    keys = jax.random.split(key, cohort.index.shape[:2])
    places = (cohort.index, cohort.weight, keys)
    losses, squares, spread, grads = jax.lax.map(client, places)
    mean = jax.tree.map(lambda x: x.mean(axis=0), grads)
    return losses.mean(), squares.max(axis=0), spread.max(axis=0), mean, params


def _seen(model: SplitModel, points: Sequence[SplitParams], cohort: Cohort, rate):
    key = jax.random.key(0)
    return [jax.device_get(_seen_at(model, p, cohort, rate, key)) for p in points]


def _largest(seen) -> tuple[np.ndarray, np.ndarray]:
    """G_j^2 and sigma_j^2, `[L]`, over all points."""
    gradient, variance = (np.max([one[n] for one in seen], axis=0) for n in (1, 2))
    return gradient.astype(np.float64), variance.astype(np.float64)


def under_dropout(
    constants: Constants,
    model: SplitModel,
    points: Sequence[SplitParams],
    cohort: Cohort,
    rate: float,
) -> Constants:
    """The constants of the loss averaged over what is dropped at the cut.

    Dropping makes gradients noisier: G_j^2 and sigma_j^2 are estimated under it, and no
    smaller than without it. beta, the gap and D_j^2 are taken to stay.

    Args:
      constants: with nothing dropped.
      model: the network, its cut that at which activations are dropped.
      points: as for `estimate`, of this cut.
      cohort: as for `estimate`.
      rate: p; what remains is rescaled.

    Returns:
      The constants; those given if nothing is dropped.
    """
    if not rate:
        return constants
    gradient, variance = _largest(_seen(model, points, cohort, rate))
    return constants._replace(
        gradient=np.maximum(constants.gradient, gradient),
        variance=np.maximum(constants.variance, variance),
    )


def estimate(
    model: SplitModel, points: Sequence[SplitParams], cohort: Cohort
) -> Estimate:
    """Constants of the bound, from gradients at the points that a run visited.

    Maxima over points and clients, which no finite sample can prove: G_j^2 and
    sigma_j^2 of mini-batch gradients, D_j^2 of weights, beta as the largest
    `|grad f(w) - grad f(v)| / |w - v|` between points, a lower estimate, and the gap as
    f(w_0), the loss being at least 0.

    Args:
      model: the network.
      points: two or more, in the order visited.
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
    seen = _seen(model, points, cohort, 0.0)

    def distance(a, b) -> float:
        return float(
            np.sqrt(
                sum(
                    np.sum((x - y) ** 2, dtype=np.float64)
                    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
                )
            )
        )

    slopes = [
        distance(a[3], b[3]) / max(distance(a[4], b[4]), 1e-12)
        for n, a in enumerate(seen)
        for b in seen[:n]
    ]
    weights = [np.asarray(_squares(one[4])) for one in seen]
    gradient, variance = _largest(seen)
    constants = Constants(
        smoothness=max(slopes),
        gap=float(seen[0][0]),
        variance=variance,
        gradient=gradient,
        weight=np.max(weights, axis=0).astype(np.float64),
    )
    squared = [float(_squares(one[3]).sum()) for one in seen]
    return Estimate(constants, np.array(squared))
