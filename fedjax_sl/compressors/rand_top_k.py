"""RandTopk: mostly the largest entries, at times another one."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.checks import check_number
from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.compressors.identity import identity
from fedjax_sl.compressors.sparse import Selection, chain, largest


NEVER = -1000.0
"""Below the logarithm of any time that a clock with a weight takes."""


def rand_top_k(
    *, keep: Any = 0.1, explore: Any = 0.1, values: Compressor | None = None
) -> Compressor:
    """Draws k entries without replacement, the top k with total probability 1 - alpha.

    Each of the k largest has probability (1 - alpha) / k in the first draw and each
    other one alpha / (n - k) (Zheng et al., IJCAI 2023, for activations at a cut): the
    server sees all of them now and then.

    Args:
      keep: share of the entries that is sent, in (0, 1]; may be traced.
      explore: alpha, in [0, 1]; at 0 it is top-k.
      values: how they are sent; as float32 if not given.

    Returns:
      The compressor; its payload is a `Sparse`.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_number("explore", explore, lambda v: 0 <= v <= 1, "in [0, 1]")

    def choose(key, x, mask, number):
        top = largest(jnp.abs(x), mask, number)
        # Guards for k = 0 and k = n, where one of the two kinds has no entry.
        weight = jnp.where(
            top,
            (1 - explore) / jnp.maximum(number, 1),
            explore / jnp.maximum(mask.sum() - number, 1),
        )
        # The first k of a race of exponential clocks are draws without replacement;
        # -log(time) = log(weight) + Gumbel noise.
        noise = jax.random.gumbel(key, x.shape)
        race = jnp.log(weight) + noise
        # Clocks of weight 0 never ring, but k entries are sent all the same: they come
        # last, among themselves at random.
        race = jnp.where(weight > 0, race, NEVER + noise)
        # What is no number has to be sent, to be refused.
        return largest(jnp.where(jnp.isnan(x), jnp.nan, race), mask, number)

    return chain(Selection(choose, keep), values or identity())
