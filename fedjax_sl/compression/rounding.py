"""How a position between two levels becomes a level, and a level a value again.

Stochastic rounding is unbiased: the errors of many senders average out. A deterministic
level does not average, and what lies below the first level is never sent. Which of them
Entropy 2023, 25, 1205 encodes as the interval's index is open.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice


Rounding = Literal["stochastic", "nearest", "floor", "floor_middle"]
"""Up or down at random, unbiased; to the nearest level; to the level below; or that,
rebuilt as the middle of its interval (level 0 stays 0)."""


SLACK = 2.0**-22
"""Relative error that a position may have from float32 arithmetic: four half ulps."""


def rounded(draw: jax.Array, position: jax.Array, rounding: Rounding) -> jax.Array:
    """Rounds positions to levels.

    `floor(r) + [u < r - floor(r)]`, `floor(r + 1/2)` or `floor(r)`.

    Args:
      draw: `[...]` u, uniform on [0, 1), of which only stochastic rounding depends.
      position: `[...]` r, >= 0, in units of a level.
      rounding: how.

    Returns:
      `[...]` float32, integers.

    Raises:
      ValueError: if the rounding is unknown.
    """
    check_choice("rounding", rounding, Rounding)
    if rounding == "nearest":
        # Halves go up; `jnp.round` would take them to the even level.
        return jnp.floor(position + 0.5)
    if rounding == "stochastic":
        below = jnp.floor(position)
        return below + (draw < position - below)
    # What lies on a level stays there, though dividing by the norm rounds it down.
    # Half a level at most, so that no position passes s, however many levels there are.
    return jnp.floor(jnp.minimum(position * (1 + SLACK), position + 0.5))


def rebuilt(level: jax.Array, levels: Any, rounding: Rounding) -> jax.Array:
    """Positions that levels stand for, in [-s, s].

    Args:
      level: `[...]` signed.
      levels: s.
      rounding: of the sender.

    Returns:
      `[...]` float32.
    """
    check_choice("rounding", rounding, Rounding)
    level = level.astype(jnp.float32)
    if rounding != "floor_middle":
        return level
    middle = level + 0.5 * jnp.sign(level)
    # The last level is no interval: only the norm itself lies there.
    return jnp.clip(middle, -jnp.asarray(levels, jnp.float32), levels)


def worst_square(rounding: Rounding) -> float:
    """Largest (expected) squared error of one entry, in units of a level.

    Stochastic: f (1 - f) <= 1/4 at f = 1/2; nearest: (1/2)^2; floor: 1, as for what
    lies just below a level, or below the first.
    """
    check_choice("rounding", rounding, Rounding)
    return 0.25 if rounding in ("stochastic", "nearest") else 1.0
