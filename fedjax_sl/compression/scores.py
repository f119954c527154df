"""Scores of one client's kernel entries: the lowest are pruned first.

Scores have the structure of the parameters, with None for leaves that are no kernel.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from fedjax_sl.compression import draws
from fedjax_sl.compression.layers import leaves_of


Scores = Any


def _kernels(function, *trees):
    """Maps a function over the kernels; other leaves become None."""
    # Biases and norms have one axis: they go with a filter, and are never ranked.
    return jax.tree.map(
        lambda leaf, *rest: function(leaf, *rest) if leaf.ndim > 1 else None, *trees
    )


def of_kernels(scores: Scores, kernels: Collection[tuple[str, ...]]) -> Scores:
    """Keeps the scores of some leaves, by path; the others become None."""
    return unflatten_dict(
        {p: x if p in kernels else None for p, x in leaves_of(scores).items()}
    )


def magnitude_scores(params: Any) -> Scores:
    """Scores every kernel entry by its magnitude, |w_i|."""
    return _kernels(jnp.abs, params)


def taylor_scores(params: Any, grads: Any) -> Scores:
    """Scores by (g_i w_i)^2, to first order the squared loss change if w_i is set to 0.

    Molchanov et al. (CVPR 2019); the choice for arXiv 2412.06414 is reconstructed.

    Args:
      params: leaves `[...]`.
      grads: gradients of the loss with respect to them.

    Returns:
      Scores, >= 0.
    """
    return _kernels(lambda w, g: (g * w) ** 2, params, grads)


def random_scores(key: jax.Array, params: Any) -> Scores:
    """Scores every kernel entry by a uniform draw: a baseline without information."""
    leaves, structure = jax.tree.flatten(params)
    scores = [
        draws.uniform(jax.random.fold_in(key, index), leaf.shape)
        for index, leaf in enumerate(leaves)
    ]
    return _kernels(lambda draw: draw, jax.tree.unflatten(structure, scores))
