"""Differential privacy of updates: each is clipped, and noise is added to it."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.federation.combine import clipped


def gaussian_mechanism(
    key: jax.Array, update: Any, *, clip_norm: Any, noise_multiplier: Any
) -> Any:
    """A client's update as it may be sent: `u min(1, C / |u|) + N(0, (z C)^2)`.

    This is the Gaussian mechanism on each client's message (Abadi et al., 2016, with
    clients in the place of examples: McMahan et al., 2018). Protected is what one
    client's update was, or that it was 0: client-level differential privacy of one
    aggregate, of noise multiplier z. The client adds the noise itself and before it
    quantises, so that the message carries it, and whatever follows and does not look at
    the client's data again (a quantiser, a code, layers left out at random, a mean, a
    trimmed mean, an update that is not used) takes nothing from the protection. A sum
    of shares of the noise would not survive a quantiser on each share. That K of N
    clients are drawn protects more, from whoever is not told which; see
    `analysis.privacy`, which counts rounds.

    Args:
      key: of this client and round, used here only.
      update: u, leaves `[...]`: all that is sent and depends on the client's data.
      clip_norm: C; may be traced.
      noise_multiplier: z >= 0; may be traced. 0 adds nothing, bit for bit.

    Returns:
      The same structure.
    """
    scale = jnp.asarray(noise_multiplier) * clip_norm
    leaves, structure = jax.tree.flatten(clipped(update, clip_norm))
    keys = jax.random.split(key, len(leaves))
    noisy = [
        jnp.where(scale > 0, x + scale * jax.random.normal(one, x.shape, x.dtype), x)
        for one, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)
