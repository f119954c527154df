"""Clients that fail: those that do not answer, and those that answer nonsense."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Algorithm, Cohort
from fedjax_sl.federation.clients import client_keys


FAILURE = 2**16
"""Purpose of a key, apart from those of draws."""

Draw = Callable[..., Cohort]


def sound(update: Any, most: Any = None) -> jax.Array:
    """Whether an update can be used: all of it finite, and not too long.

    Args:
      update: leaves `[...]`.
      most: the largest 2-norm that is believed; any if not given.

    Returns:
      [] bool.
    """
    squares = jnp.stack([(leaf * leaf).sum() for leaf in jax.tree.leaves(update)])
    norm = jnp.sqrt(squares.sum())
    return jnp.isfinite(norm) if most is None else norm <= most


def failing(draw: Draw, probability: Any) -> Draw:
    """A draw of cohorts whose clients fail to answer with a probability.

    A client that fails is empty until the cohort is drawn anew: nothing is sent to it,
    or by it, and it has no part in the round.

    Args:
      draw: of those who are asked.
      probability: that a client fails, may be traced.

    Returns:
      The draw of those who answer.
    """

    def drawn(key: jax.Array, *data: Any, period: jax.Array, **rest: Any) -> Cohort:
        cohort = draw(key, *data, period=period, **rest)
        keys = client_keys(jax.random.fold_in(key, period), cohort.client_id, FAILURE)
        answers = jax.vmap(jax.random.uniform)(keys) >= probability
        return cohort._replace(
            weight=cohort.weight * answers[:, None, None],
            num_examples=cohort.num_examples * answers,
        )

    return drawn


def patient(algorithm: Algorithm) -> Algorithm:
    """The same method; where no client answers, all but the round stays as it was."""

    def round(state, cohort, key):
        new, metrics = algorithm.round(state, cohort, key)
        answered = cohort.num_examples.any()
        kept = jax.tree.map(partial(jnp.where, answered), new, state)
        return kept._replace(round=new.round), metrics

    return algorithm._replace(round=round)
