"""Clients that fail: those that do not answer, and those that answer nonsense."""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Algorithm, Cohort
from fedjax_sl.checks import check_choice
from fedjax_sl.federation.clients import client_keys


FAILURE, CORRUPTION = 2**16, 2**16 + 1
"""Purposes of keys, apart from those of draws."""

Corruption = Literal["nan", "inf", "huge", "flip"]

FAULTS: dict[Corruption, float] = {
    "nan": math.nan,
    "inf": math.inf,
    "huge": 1e6,
    "flip": -1.0,
}
"""How many times as large as they should be corrupted messages arrive."""


def valid(update: Any, most: Any = None) -> jax.Array:
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


def _only(cohort: Cohort, present: jax.Array) -> Cohort:
    """The cohort with those clients empty who are not there, `[K]` bool."""
    return cohort._replace(
        weight=cohort.weight * present[:, None, None],
        num_examples=cohort.num_examples * present,
    )


def client_dropout(algorithm: Algorithm, probability: Any) -> Algorithm:
    """The same method with clients that fail to answer with a probability.

    A client that fails is empty until the cohort is drawn anew: nothing is sent to it,
    or by it, and it has no part in the round.

    Args:
      algorithm: the method.
      probability: that a client fails, may be traced.

    Returns:
      The method, whose cohorts are of those who answer.
    """

    def draw(key: jax.Array, *data: Any, period: jax.Array, **rest: Any) -> Cohort:
        cohort = algorithm.draw(key, *data, period=period, **rest)
        keys = client_keys(jax.random.fold_in(key, period), cohort.client_id, FAILURE)
        return _only(cohort, jax.vmap(jax.random.uniform)(keys) >= probability)

    return algorithm._replace(draw=draw)


def without_stragglers(algorithm: Algorithm, in_time: Any) -> Algorithm:
    """The same method without those who would be late.

    Args:
      algorithm: the method.
      in_time: `[T, N]` bool, who will be done in each round; None for all.

    Returns:
      The method, whose cohorts are of those who will.
    """
    if in_time is None:
        return algorithm

    def draw(*data: Any, round: jax.Array, **rest: Any) -> Cohort:
        cohort = algorithm.draw(*data, round=round, **rest)
        return _only(cohort, in_time[round, cohort.client_id])

    return algorithm._replace(draw=draw)


def message_corruption(
    algorithm: Algorithm, probability: Any, kind: Corruption
) -> Algorithm:
    """The same method where some send what cannot be used, until drawn anew.

    Args:
      algorithm: the method.
      probability: that a client's messages are corrupted, may be traced.
      kind: what they are: not a number, infinite, a million times too large, or of the
        wrong sign, which nobody can tell from one update alone.

    Returns:
      The method.
    """
    check_choice("kind", kind, Corruption)

    def draw(key: jax.Array, *data: Any, period: jax.Array, **rest: Any) -> Cohort:
        cohort = algorithm.draw(key, *data, period=period, **rest)
        base = jax.random.fold_in(key, period)
        keys = client_keys(base, cohort.client_id, CORRUPTION)
        broken = jax.vmap(jax.random.uniform)(keys) < probability
        return cohort._replace(fault=jnp.where(broken, FAULTS[kind], 1.0))

    return algorithm._replace(draw=draw)


def arrived(fault: jax.Array | None, start: Any, sent: Any) -> Any:
    """What arrives of a message that says how far something is from a start.

    `x + (f - 1) (x - x_0)`, which is x to the bit at f = 1. Whoever sent it has it as
    it was: the gradient that comes back is that of x.

    Args:
      fault: [] f; None for messages as they should be.
      start: x_0, leaves `[...]`.
      sent: x, the same structure.

    Returns:
      The same structure.
    """
    if fault is None:
        return sent

    def one(old, new):
        return new + jax.lax.stop_gradient((fault - 1.0) * (new - old))

    return jax.tree.map(one, start, sent)


def skip_empty_rounds(algorithm: Algorithm) -> Algorithm:
    """The same method; where no client answers, all but the round stays as it was."""

    def round(state, cohort, key):
        new, metrics = algorithm.round(state, cohort, key)
        answered = cohort.num_examples.any()
        kept = jax.tree.map(partial(jnp.where, answered), new, state)
        return kept._replace(round=new.round), metrics

    return algorithm._replace(round=round)
