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


def initial(context: Context, key: jax.Array) -> FedLPQState:
    """Initialises the whole network, and each client's complexity and private head."""
    image = jnp.zeros((1, *context.input_shape))
    whole = dict(context.models[-1].init(key, image, False))
    complexity = _complexities(context, key)
    sent = to_units(whole["params"], by=context.config.unit)
    residual = context.residuals.place(
        first_residuals(context.config.updates, sent, context.num_clients)
    )
    of_server = model_down.first_residual(context.config.models, sent)
    moments = first_moments(context.config.aggregator, whole["params"])
    control, controls = None, None
    if context.config.control_variates:
        control, controls = first_controls(whole["params"], context.num_clients)
        controls = context.residuals.place(controls)
    if context.config.head == "reset":
        # No entries, not None: a round writes heads by the same code in either case.
        nothing = jnp.zeros((context.num_clients, 0))
        # Raw data: a checkpoint stores arrays of numbers, and a typed key is none.
        own = jax.random.key_data(key)
        return FedLPQState(
            round=jnp.int32(0),
            variables=whole,
            complexity=complexity,
            head=nothing,
            head_key=own,
            residual=residual,
            model_residual=of_server,
            levels=first_levels(context.config.levels),
            moments=moments,
            control=control,
            controls=controls,
        )
    branches = [partial(first, context, model, whole) for model in context.models]

    def head(arguments):
        number, key = arguments
        return jax.lax.switch(number, branches, key)

    keys = client_keys(key, jnp.arange(context.num_clients), HEAD)
    # A map, not a vmap, under which the switch would compute every branch.
    heads = jax.lax.map(head, (complexity, keys))
    return FedLPQState(
        jnp.int32(0),
        whole,
        complexity,
        heads,
        residual=residual,
        model_residual=of_server,
        levels=first_levels(context.config.levels),
        moments=moments,
        control=control,
        controls=controls,
    )
