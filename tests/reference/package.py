"""The package's side of a comparison: states as flat dicts, draws as it makes them."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression import draw_layers
from fedjax_sl.compression.units import leaves_of
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedlpq.config import settings_of
from fedjax_sl.fedlpq.state import LAYERS
from fedjax_sl.fedsl.state import ORDER


def flat(tree, at=None):
    """Leaves by name, None where there is none; of one client of a stack if asked."""
    return {
        "/".join(path): None if x is None else np.asarray(x if at is None else x[at])
        for path, x in leaves_of(tree).items()
    }


def as_float64(tree):
    """The same tree, its floats in float64."""

    def wide(x):
        inexact = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(x, jnp.float64) if inexact else x

    return jax.tree.map(wide, tree)


def jittered(tree, seed):
    """Positive leaves moved at random, so that nothing is 0, 1 or a tie."""
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(tree)
    moved = [np.asarray(x) + 0.2 * rng.uniform(-1, 1, x.shape) for x in leaves]
    return jax.tree.unflatten(structure, [jnp.asarray(x) for x in moved])


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
    kept = settings_of(config, client_id).keep_probability
    keys = client_keys(key, client_id, LAYERS)
    draw = jax.vmap(lambda key, p: draw_layers(key, layers, p))
    return np.asarray(draw(keys, kept))
