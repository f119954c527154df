"""Activation dropout at the cut (arXiv 2412.06414; the rescaling is reconstructed)."""

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_choice, check_number
from fedjax_sl.compression import draws
from fedjax_sl.errors import InputError


Per = Literal["element", "channel"]


def drop_activations(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: Any,
    rescale: bool = True,
    per: Per = "element",
) -> tuple[jax.Array, jax.Array]:
    """Drops activations at random before they are sent: z * x / (1 - p).

    z ~ Bernoulli(1 - p), independent; with the rescaling E[z x / (1 - p)] = x, so the
    server sees the right mean and nothing changes at test time. The gradient is masked
    and scaled in the same way.

    Args:
      key: a key used here only; client and server may share it and send no mask.
      x: `[B, ..., Ch]`, one client's activations.
      rate: p in [0, 1), may be traced; 0 is the identity, bit for bit.
      rescale: divide what is kept by 1 - p.
      per: one draw for each element, or for each example and channel.

    Returns:
      The activations, and the mask z as bool, `[B, ..., Ch]` or `[B, 1, ..., Ch]`.

    Raises:
      ValueError: if a plain `rate` lies outside [0, 1).
    """
    check_choice("per", per, Per)
    check_number("rate", rate, lambda v: 0 <= v < 1, "in [0, 1)")
    if x.ndim < 2:
        raise InputError(f"x has shape {x.shape}: expected [B, ..., Ch].")
    shape = x.shape
    if per == "channel":
        shape = (shape[0], *[1] * (x.ndim - 2), shape[-1])
    rate = jnp.asarray(rate, x.dtype)
    chex.assert_rank(rate, 0)
    # Draws are in [0, 1): at rate 0 nothing is dropped.
    mask = draws.uniform(key, shape) >= rate
    kept = x / (1 - rate) if rescale else x
    # A select, not a product: it stays 0 where x is not finite.
    return jnp.where(mask, kept, 0.0), mask
