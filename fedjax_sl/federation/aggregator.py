"""The server's step along the clients' mean update: FedAvgM, FedAdam and their kin.

Not by the optimisers of optax: those correct the moments' bias by one count of steps,
while here an entry that no client sent has no step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.federation.aggregation import choose
from fedjax_sl.federation.aggregator_config import ADAPTIVE, AggregatorConfig


class Moments(NamedTuple):
    """What the server keeps from one aggregation to the next.

    Attributes:
      first: m, leaves as the parameters.
      second: v, the same; None with momentum alone.
    """

    first: Any
    second: Any


def first_moments(config: AggregatorConfig, params: Any) -> Moments | None:
    """Returns the moments before the first aggregation; None for the plain mean."""
    if not config.active:
        return None
    first = jax.tree.map(jnp.zeros_like, params)
    if config.kind not in ADAPTIVE:
        return Moments(first, None)
    # The rate of growth of the first steps: v = 0 would let tau alone bound them.
    return Moments(
        first, jax.tree.map(lambda x: jnp.full_like(x, config.tau**2), first)
    )


def _first(config: AggregatorConfig, first: jax.Array, update: jax.Array) -> jax.Array:
    """The first moment after an update."""
    new = update if config.kind == "momentum" else (1 - config.beta1) * update
    return config.beta1 * first + new


def _second(
    config: AggregatorConfig, second: jax.Array, update: jax.Array
) -> jax.Array:
    """The second moment after an update."""
    square = update * update
    if config.kind == "adagrad":
        return second + square
    if config.kind == "adam":
        return config.beta2 * second + (1 - config.beta2) * square
    return second - (1 - config.beta2) * square * jnp.sign(second - square)


def server_step(
    config: AggregatorConfig,
    moments: Moments | None,
    mean: Any,
    *,
    start: Any,
    sent: Any,
) -> tuple[Any, Moments | None]:
    """Steps along the clients' mean update D = mean - start, entry by entry.

        momentum   m <- beta_1 m + D,              w <- w + eta m
        others     m <- beta_1 m + (1 - beta_1) D, w <- w + eta m / (sqrt(v) + tau)
        adagrad    v <- v + D^2
        adam       v <- beta_2 v + (1 - beta_2) D^2
        yogi       v <- v - (1 - beta_2) D^2 sign(v - D^2)

    (Hsu, Qi and Brown 2019; Reddi et al., "Adaptive federated optimization", ICLR 2021,
    algorithm 2, without correction of bias and with v = tau^2 at first.)

    Args:
      config: kind and numbers, which may be traced.
      moments: as from `first_moments`.
      mean: of the clients' models, leaves `[...]`.
      start: w, the mean of what they started from, the same structure.
      sent: the same structure, of flags or masks that broadcast against the leaves:
        whether any client that is used sent the entry. Of others neither the value w
        nor the moments change.

    Returns:
      The parameters and the moments; the mean itself if there are none.
    """
    if moments is None:
        return mean, None
    update = jax.tree.map(jnp.subtract, mean, start)
    one = jax.tree.map(lambda *x: _first(config, *x), moments.first, update)
    if moments.second is None:
        # With beta_1 = 0 at rate 1 it is the mean: tests/federation/test_aggregator.py.
        step, two = one, None
    else:
        two = jax.tree.map(lambda *x: _second(config, *x), moments.second, update)
        step = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + config.tau), one, two)
    params = jax.tree.map(lambda w, s: w + config.rate * s, start, step)

    # Entry by entry: momentum alone would move what no client sent.
    def where_sent(new, old):
        return jax.tree.map(choose, sent, new, old)

    kept = None if two is None else where_sent(two, moments.second)
    return where_sent(params, start), Moments(where_sent(one, moments.first), kept)
