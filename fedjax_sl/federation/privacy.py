"""Differential privacy of updates: clipping and Gaussian noise."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.federation.combine import clipped


def gaussian_mechanism(
    key: jax.Array, update: Any, *, clip_norm: Any, noise_multiplier: Any
) -> Any:
    """Privatizes a client's update: `u min(1, C / |u|) + N(0, (z C)^2)`.

    This is the Gaussian mechanism on each client's message (Abadi et al., 2016; per
    client instead of per example: McMahan et al., 2018). It hides one client's update,
    or that it was 0: client-level differential privacy of one aggregate, with noise
    multiplier z. The client adds the noise itself, before quantising, so that the
    message is private, and by post-processing so is everything computed from it without
    the client's data (a quantiser, a code, layers skipped at random, a mean, a trimmed
    mean, a rejected update). A sum of shares of the noise would not survive a quantiser
    on each share. Drawing K of N clients amplifies privacy against an adversary that
    does not know the cohort; see `analysis.privacy`, which accounts for rounds.

    Args:
      key: of this client and round, used here only.
      update: u, leaves `[...]`: all data-dependent values that are sent.
      clip_norm: C; may be traced.
      noise_multiplier: z >= 0; may be traced. 0 adds nothing, bit for bit.

    Returns:
      The same structure.
    """
    scale = jnp.asarray(noise_multiplier) * clip_norm
    leaves, structure = jax.tree.flatten(clipped(update, clip_norm))
    keys = jax.random.split(key, len(leaves))
    # x + 0 turns -0 into 0, so the select keeps z = 0 exact.
    noisy = [
        jnp.where(scale > 0, x + scale * jax.random.normal(own, x.shape, x.dtype), x)
        for own, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)
