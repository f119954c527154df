"""The package's side of a comparison: states as flat dicts, draws as it makes them."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression import draw_layers
from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedlpq.config import client_configs
from fedjax_sl.fedlpq.state import LAYERS
from fedjax_sl.fedsl.state import ORDER


def flat(tree, at=None):
    """Leaves by name, None where there is none; of one client of a stack if asked."""
    return {
        "/".join(path): None if x is None else np.asarray(x if at is None else x[at])
        for path, x in leaves_of(tree).items()
    }


def blank(algorithm):
    """A state like a first one, in float64: nothing pruned, and 0 in all else.

    Nothing is compiled for it, and where a run starts from is drawn by `jittered`.
    """

    def filled(leaf):
        kind = jnp.float64 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
        return jnp.full(leaf.shape, leaf.dtype == jnp.bool_, kind)

    return jax.tree.map(filled, jax.eval_shape(algorithm.init, jax.random.key(0)))


def jittered(tree, seed):
    """Parameters and statistics of which none is 0, 1 or the same as another."""
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            return jnp.asarray(scale * rng.normal(size=leaf.shape))
        centre = 1.0 if name in ("scale", "var") else 0.0
        return jnp.asarray(centre + 0.2 * rng.uniform(-1, 1, leaf.shape))

    return jax.tree_util.tree_map_with_path(one, tree)


def visiting_order(key, client_id):
    """Places in the order in which a round with this key visits them."""
    keys = client_keys(key, client_id, ORDER)
    return [int(k) for k in jnp.argsort(jax.vmap(jax.random.uniform)(keys))]


def optimizer_state(state, at=None):
    """What an optax optimiser carries, as `optimizers` names it."""
    found = {}
    for part in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "_fields")):
        for name, value in getattr(part, "_asdict", dict)().items():
            if name == "count":
                found[name] = np.asarray(value if at is None else value[at])
            else:
                leaves = flat(value, at)
                found |= {f"{name} {leaf}": x for leaf, x in leaves.items()}
    return found


def flags_drawn(config, key, client_id, layers):
    """`[K, U]`, which layers each client of a FedLP-Q cohort sends if it has them."""
    kept = client_configs(config, client_id).keep_probability
    keys = client_keys(key, client_id, LAYERS)
    draw = jax.vmap(lambda key, p: draw_layers(key, layers, p))
    return np.asarray(draw(keys, kept))
