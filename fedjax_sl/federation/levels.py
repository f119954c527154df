"""Levels of the quantised updates, doubled when the loss stalls, and by client.

DAdaQuant (Hönig, Zhao and Mullins, ICML 2022). The indices of the time-adaptive rule
are reconstructed: the printed one was not available.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.qsgd import levels_of_bits, most_levels
from fedjax_sl.federation.level_config import LevelConfig


LEVEL_BITS = 24
"""Bits of q_k, which the server sends to each client: no code has 2^24 levels."""


class LevelState(NamedTuple):
    """What the server keeps from round to round.

    Attributes:
      level: [] int32, q, of the next update.
      losses: `[phi]` float32, the smoothed losses of the last rounds, the newest last;
        infinite before the first round.
      since: [] int32, rounds since the level changed.
    """

    level: jax.Array
    losses: jax.Array
    since: jax.Array


def first_levels(config: LevelConfig) -> LevelState | None:
    """Returns the state before the first round; None if levels ignore the loss."""
    if not config.of_time:
        return None
    return LevelState(
        level=jnp.asarray(config.start, jnp.int32),
        losses=jnp.full((config.patience,), jnp.inf, jnp.float32),
        since=jnp.int32(0),
    )


def after_round(
    config: LevelConfig,
    state: LevelState | None,
    loss: jax.Array,
    weights: jax.Array,
) -> LevelState | None:
    """Smooths the cohort's loss, and doubles the level where it has not fallen.

    G^_t = psi G^_{t-1} + (1 - psi) G_t with G^_0 = G_0; if G^_t >= G^_{t-phi}, and the
    level has been the same for phi rounds, q <- min(2 q, q_max) (DAdaQuant,
    reconstructed).

    Args:
      config: psi, phi and q_max.
      state: before the round.
      loss: `[K]` of each client.
      weights: `[K]`, >= 0; 0 for a client that was not heard or is rejected.

    Returns:
      The state after it: as before if no client was heard.
    """
    if state is None:
        return None
    used = (weights > 0) & jnp.isfinite(loss)
    share = jnp.where(used, weights, 0.0)
    heard = share.sum() > 0
    # A select, not only a product: 0 * nan is nan.
    total = jnp.where(used, share * loss, 0.0).sum()
    mean = total / jnp.where(heard, share.sum(), 1.0)
    before, oldest = state.losses[-1], state.losses[0]
    smoothed = config.smoothing * before + (1 - config.smoothing) * mean
    # The first loss begins the average: psi times infinity would stay infinite.
    smoothed = jnp.where(jnp.isfinite(before), smoothed, mean).astype(jnp.float32)
    # Infinite before round phi, which no loss reaches.
    stalls = (smoothed >= oldest) & (state.since + 1 >= config.patience)
    # Levels that suffice while the loss falls are too coarse once it stalls.
    doubled = jnp.minimum(2 * state.level, config.most).astype(jnp.int32)
    level = jnp.where(stalls, doubled, state.level)
    after = LevelState(
        level=level,
        losses=jnp.append(state.losses[1:], smoothed),
        since=jnp.where(level == state.level, state.since + 1, 0),
    )
    return jax.tree.map(lambda new, old: jnp.where(heard, new, old), after, state)


def same_variance(level: Any, weights: jax.Array) -> jax.Array:
    """Shares levels out among clients so that their sum is least.

    q_k = sqrt(a / b) w_k^(2/3), a = sum_j w_j^(2/3), b = sum_j w_j^2 / q_j^2: the
    minimum of sum_k q_k at the same sum_k w_k^2 / q_k^2, to which the variance of the
    mean is proportional (DAdaQuant, client-adaptive).

    Args:
      level: q of every client, or `[K]`.
      weights: `[K]` w_k, >= 0.

    Returns:
      `[K]` float32, q_k before it is rounded; 0 for a client of weight 0.
    """
    chex.assert_rank(weights, 1)
    powers = weights ** (2 / 3)
    variance = (weights / level) ** 2
    b = variance.sum()
    # At equal weights q_k = q: clients of one size keep the levels of their bits.
    return jnp.sqrt(powers.sum() / jnp.where(b > 0, b, 1.0)) * powers


def common_levels(
    config: LevelConfig, updates: CompressorConfig, state: LevelState | None = None
) -> Any:
    """Returns q, before clients differ: of the state, or by the bits of updates.

    Args:
      config: whether levels adapt.
      updates: compressor of one client, or of several.
      state: of the server; if not given, the level is the largest.

    Returns:
      Of one client or several; None if levels do not adapt.
    """
    if not config.active:
        return None
    if config.of_time:
        return config.most if state is None else state.level
    return levels_of_bits(updates.bits, updates.coder)


def of_cohort(
    config: LevelConfig,
    updates: CompressorConfig,
    state: LevelState | None,
    weights: jax.Array,
) -> jax.Array | None:
    """Returns q_k of each client, the nearest integer that can be coded.

    Args:
      config: whether levels adapt.
      updates: compressor of each client, numbers `[K]`.
      state: of the server.
      weights: `[K]` omega_k.

    Returns:
      `[K]` int32; None if levels do not adapt.
    """
    if not config.active:
        return None
    level = jnp.broadcast_to(common_levels(config, updates, state), weights.shape)
    if config.of_clients:
        level = jnp.round(same_variance(level, weights))
    # A client of weight 0 has q_k = 0, which no code has.
    return jnp.clip(level, 1, most_levels(updates.coder)).astype(jnp.int32)


def largest(config: LevelConfig, updates: CompressorConfig, clients: int) -> Any:
    """Bounds q_k of any client in a cohort of K: `q K^(1/3)` if they differ.

    q is the largest of all clients', as b in `same_variance` is least with it. With
    u_j = (w_j / w_k)^(2/3), (q_k / q)^2 is then at most sum u_j / sum u_j^3, which is
    largest where the K - 1 others are equal, and there below K^(2/3).

    Args:
      config: whether levels adapt.
      updates: compressor of all clients, `[N]`, or of one that all are like.
      clients: K.

    Returns:
      `[N]` int32, or []; None if levels do not adapt.
    """
    level = common_levels(config, updates)
    if level is None:
        return None
    level = jnp.broadcast_to(level, jnp.shape(updates.bits))
    if config.of_clients:
        # Up, so that the bound holds however `of_cohort` rounds.
        most = jnp.ceil(level.max().astype(jnp.float32) * clients ** (1 / 3))
        level = jnp.broadcast_to(most, level.shape)
    return jnp.clip(level, 1, most_levels(updates.coder)).astype(jnp.int32)
