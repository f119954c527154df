"""Sub-models: the part of the whole network that a client trains.

Layers of a sub-model with the name of a layer of the whole network are shared; the
others are its private head, which never leaves the client.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.models.split import Variables


# Asked for several times before the first round, and traced once.
@lru_cache(maxsize=256)
def template(model: nn.Module, input_shape: tuple[int, ...]) -> Variables:
    """Returns the shapes of a model's variables."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return dict(
        jax.eval_shape(
            lambda key, x: model.init(key, x, False), jax.random.key(0), image
        )
    )


def private(mine: Variables, whole: Variables) -> Variables:
    """Returns the parameters of a sub-model that the whole network does not have."""
    # By name alone: a layer of another shape needs another name, or it is shared.
    return {k: v for k, v in mine["params"].items() if k not in whole["params"]}


def head_size(mine: Variables, whole: Variables) -> int:
    """Counts the entries of the private head."""
    return sum(leaf.size for leaf in jax.tree.leaves(private(mine, whole)))


def pack_head(trained: Variables, whole: Variables, size: int) -> jax.Array:
    """Flattens the private head to one vector `[H]`, padded with zeros."""
    leaves = jax.tree.leaves(private(trained, whole))
    flat = [leaf.reshape(-1) for leaf in leaves]
    # Heads of all complexities are rows of one array.
    padding = size - sum(leaf.size for leaf in leaves)
    return jnp.concatenate([*flat, jnp.zeros(padding)])


def _unpack_head(head: jax.Array, shapes: Variables) -> Variables:
    # In the order of leaves in which `pack_head` joins them.
    leaves, structure = jax.tree.flatten(shapes)
    # Padding lies behind the last leaf, and is never read.
    start, filled = 0, []
    for leaf in leaves:
        filled.append(head[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(structure, filled)


def take(whole: Variables, head: jax.Array, shapes: Variables) -> Variables:
    """Builds a client's variables from the whole network and its private head."""
    shared = {
        collection: {k: whole[collection][k] for k in layers if k in whole[collection]}
        for collection, layers in shapes.items()
    }
    own = _unpack_head(head, private(shapes, whole))
    return {**shared, "params": {**shared["params"], **own}}


def put_back(trained: Variables, whole: Variables) -> Variables:
    """Writes the shared layers of a trained sub-model into the whole network."""
    return {
        # A layer that the client lacks stays as received: its displacement is 0.
        collection: {k: trained[collection].get(k, old) for k, old in layers.items()}
        for collection, layers in whole.items()
    }
