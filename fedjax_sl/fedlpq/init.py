"""Initial state of FedLP-Q."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.compression.layers import to_units
from fedjax_sl.federation import model_down
from fedjax_sl.federation.aggregator import first_moments
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.control_variates import first_controls
from fedjax_sl.federation.levels import first_levels
from fedjax_sl.federation.residuals import first_residuals
from fedjax_sl.fedlpq import submodel
from fedjax_sl.fedlpq.config import PREFERENCES
from fedjax_sl.fedlpq.heads import first
from fedjax_sl.fedlpq.state import COMPLEXITY, HEAD, Context, FedLPQState


def templates(context: Context) -> list[submodel.Variables]:
    """Returns the shapes of each network's variables."""
    return [submodel.template(model, context.input_shape) for model in context.models]


def _complexities(context: Context, key: jax.Array) -> jax.Array:
    """Draws the complexity of each client, `[N]`."""
    everyone = jnp.arange(context.num_clients)
    if context.config.preference is None:
        # An index into the networks, of which there is one.
        return jnp.zeros_like(everyone)
    chances = jnp.log(jnp.array(PREFERENCES[context.config.preference]))
    # Keyed by client: with more clients nobody's complexity changes.
    keys = client_keys(key, everyone, COMPLEXITY)
    return jax.vmap(lambda own: jax.random.categorical(own, chances))(keys)


def _heads(
    context: Context, whole: submodel.Variables, complexity: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Draws the private heads, `[N, H]`; or returns the key data to draw them from."""
    if context.config.head == "reset":
        # No entries, not None: a round writes heads by the same code in either case.
        nothing = jnp.zeros((context.num_clients, 0))
        # Raw data: a checkpoint stores arrays of numbers, and a typed key is none.
        return nothing, jax.random.key_data(key)
    branches = [partial(first, context, model, whole) for model in context.models]

    def head(arguments):
        number, key = arguments
        return jax.lax.switch(number, branches, key)

    keys = client_keys(key, jnp.arange(context.num_clients), HEAD)
    # A map, not a vmap, under which the switch would compute every branch.
    return jax.lax.map(head, (complexity, keys)), None


def initial(context: Context, key: jax.Array) -> FedLPQState:
    """Initialises the whole network, and each client's complexity and private head."""
    config, place = context.config, context.residuals.place
    image = jnp.zeros((1, *context.input_shape))
    whole = dict(context.models[-1].init(key, image, False))
    complexity = _complexities(context, key)
    head, head_key = _heads(context, whole, complexity, key)
    sent = to_units(whole["params"], by=config.unit)
    control, controls = None, None
    if config.control_variates:
        control, controls = first_controls(whole["params"], context.num_clients)
    return FedLPQState(
        round=jnp.int32(0),
        variables=whole,
        complexity=complexity,
        head=head,
        head_key=head_key,
        residual=place(first_residuals(config.updates, sent, context.num_clients)),
        model_residual=model_down.first_residual(config.models, sent),
        levels=first_levels(config.levels),
        moments=first_moments(config.aggregator, whole["params"]),
        control=control,
        controls=place(controls),
    )
