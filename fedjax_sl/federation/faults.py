"""Client failures: dropout, stragglers, and corrupted messages."""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Algorithm, Cohort
from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import client_keys


FAILURE, CORRUPTION = 2**16, 2**16 + 1
"""Purposes of keys, distinct from those of draws."""

Corruption = Literal["nan", "inf", "huge", "flip"]

FAULTS: dict[Corruption, float] = {
    "nan": math.nan,
    "inf": math.inf,
    "huge": 1e6,
    "flip": -1.0,
}
"""The factor by which a corrupted message is scaled."""


def valid(update: Any, most: Any = None) -> jax.Array:
    """Checks an update: all of it finite, and its norm within the limit.

    Args:
      update: leaves `[...]`.
      most: the largest valid 2-norm; any finite one if not given.

    Returns:
      [] bool.
    """
    # One norm tells both: any NaN or inf makes it not finite.
    squares = jnp.stack([(leaf * leaf).sum() for leaf in jax.tree.leaves(update)])
    norm = jnp.sqrt(squares.sum())
    # A comparison with NaN is False.
    return jnp.isfinite(norm) if most is None else norm <= most


def _only(cohort: Cohort, present: jax.Array) -> Cohort:
    """Empties the clients of a cohort that are not present, `[K]` bool."""
    # Shapes must not change, so absent clients become padding.
    return cohort._replace(
        weight=cohort.weight * present[:, None, None],
        num_examples=cohort.num_examples * present,
    )


def client_dropout(algorithm: Algorithm, probability: Any) -> Algorithm:
    """Wraps a method so that clients drop out with a probability.

    A client that drops out is empty until the cohort is drawn again: it neither
    receives nor sends anything, and does not participate.

    Args:
      algorithm: the method.
      probability: that a client drops out, may be traced.

    Returns:
      The method, with cohorts of the remaining clients.
    """

    def draw(key: jax.Array, *data: Any, period: jax.Array, **rest: Any) -> Cohort:
        cohort = algorithm.draw(key, *data, period=period, **rest)
        # Keyed by period, not by round: a client is absent for a whole period.
        keys = client_keys(jax.random.fold_in(key, period), cohort.client_id, FAILURE)
        # Draws are in [0, 1): at probability 0 nobody drops out, at 1 everybody does.
        return _only(cohort, jax.vmap(jax.random.uniform)(keys) >= probability)

    return algorithm._replace(draw=draw)


def without_stragglers(algorithm: Algorithm, in_time: Any) -> Algorithm:
    """Wraps a method so that stragglers do not participate.

    Args:
      algorithm: the method.
      in_time: `[T, N]` bool, the clients that meet the deadline of each round; None for
        all.

    Returns:
      The method, with cohorts of these clients.
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
    """Wraps a method so that some clients send corrupted messages for a period.

    Args:
      algorithm: the method.
      probability: that a client's messages are corrupted, may be traced.
      kind: of corruption: not a number, infinite, a million times too large, or of the
        wrong sign, which cannot be detected from one update alone.

    Returns:
      The method.
    """
    check_choice("kind", kind, Corruption)

    def draw(key: jax.Array, *data: Any, period: jax.Array, **rest: Any) -> Cohort:
        cohort = algorithm.draw(key, *data, period=period, **rest)
        base = jax.random.fold_in(key, period)
        keys = client_keys(base, cohort.client_id, CORRUPTION)
        broken = jax.vmap(jax.random.uniform)(keys) < probability
        # 1, not None: one structure, in which a valid message keeps its bits.
        return cohort._replace(fault=jnp.where(broken, FAULTS[kind], 1.0))

    return algorithm._replace(draw=draw)


def arrived(fault: jax.Array | None, start: Any, sent: Any) -> Any:
    """Corrupts a message that encodes the difference from a start.

    `x + (f - 1) (x - x_0)`, which is x bit for bit at f = 1. The gradient that comes
    back is that of x.

    Args:
      fault: [] f; None for no corruption.
      start: x_0, leaves `[...]`.
      sent: x, the same structure.

    Returns:
      The same structure.
    """
    if fault is None:
        return sent

    def scale_update(old, new):
        # The sender's own copy is intact, so the gradient must not see the fault.
        return new + jax.lax.stop_gradient((fault - 1.0) * (new - old))

    return jax.tree.map(scale_update, start, sent)


def as_it_arrives(fault: jax.Array | None, sent: Any) -> Any:
    """Corrupts a message that is not relative to anything, see `arrived`."""
    return arrived(fault, jax.tree.map(jnp.zeros_like, sent), sent)


def skip_empty_rounds(algorithm: Algorithm) -> Algorithm:
    """Wraps a method so that a round without clients changes only the round number."""

    def round(state, cohort, key):
        if "round" not in getattr(state, "_fields", ()):
            raise InputError(
                "failure_probability or drop_stragglers: expected a method whose state "
                f"is a NamedTuple with a field 'round', not a {type(state).__name__}."
            )
        new, metrics = algorithm.round(state, cohort, key)
        answered = cohort.num_examples.any()
        # On the host: without clients no row was changed, and none has to be compared.
        rows = {name: getattr(new, name) for name in algorithm.on_host}
        kept = jax.tree.map(partial(jnp.where, answered), new, state)
        # The round still advances: draws and schedules depend on it.
        return kept._replace(round=new.round, **rows), metrics

    return algorithm._replace(round=round)
