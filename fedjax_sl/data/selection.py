"""Selects the clients of a period: drawn uniformly, or by a rule of one's own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_integer
from fedjax_sl.errors import InputError


CLIENTS = 0
"""Purpose, folded into keys; `cohort` has 1."""

Choose = Callable[[jax.Array, Any], jax.Array]
"""`choose(key, period)` -> `[K]` int32, distinct ids of the clients of a period: by
these alone, as a cohort stays for a period, and a draw knows nothing of the state."""


def draw_clients(key: jax.Array, *, num_clients: int, cohort_size: int) -> jax.Array:
    """Draws K of N clients without replacement; all of them, in order, if K = N.

    Args:
      key: a key used here only.
      num_clients: N.
      cohort_size: K, from 1 to N.

    Returns:
      `[K]` int32, distinct; if K = N, client k is at index k.

    Raises:
      ValueError: if the cohort is empty or larger than the number of clients.
    """
    check_integer("cohort_size", cohort_size, 1, num_clients)
    everyone = jnp.arange(num_clients, dtype=jnp.int32)
    if cohort_size == num_clients:
        return everyone
    return jax.random.permutation(key, everyone)[:cohort_size]


def clients_of(
    key: jax.Array,
    num_clients: int,
    period: Any,
    cohort_size: int,
    *,
    choose: Choose | None,
) -> jax.Array:
    """Draws or chooses the clients of a period.

    Args:
      key: of the whole run.
      num_clients: N.
      period: [] int32, may be traced.
      cohort_size: K.
      choose: them; None for a uniform draw.

    Returns:
      `[K]` int32.

    Raises:
      ValueError: if `cohort_size` is not in 1..N, or not the number of those chosen.
    """
    # By period, not by round: a cohort stays until its models are aggregated.
    key = jax.random.fold_in(jax.random.fold_in(key, CLIENTS), period)
    if choose is None:
        return draw_clients(key, num_clients=num_clients, cohort_size=cohort_size)
    check_integer("cohort_size", cohort_size, 1, num_clients)
    found = jnp.asarray(choose(key, period), jnp.int32)
    if found.shape != (cohort_size,):
        raise InputError(
            f"choose: clients of shape {found.shape}: expected [{cohort_size}], "
            "cohort_size of them."
        )
    return found
