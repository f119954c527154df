"""Private heads of sub-models: kept from round to round, or drawn afresh in each."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.checks import check_choice
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedlpq import submodel
from fedjax_sl.fedlpq.config import Head
from fedjax_sl.fedlpq.state import HEAD, Context, FedLPQState


def kept_size(
    models: Sequence[nn.Module], input_shape: tuple[int, int, int], head: Head
) -> int:
    """H, entries that are kept of each client: as many as the largest head has.

    Complexities follow from the key of a run, which may be traced, so that one shape
    has to do for every client. Of heads that are reset nothing is kept.

    Args:
      models: of rising complexity, the last one being the whole network.
      input_shape: `(H, W, Ch)` of one example.
      head: what happens to them after a round.

    Returns:
      Entries; 0 where all train the whole network.
    """
    check_choice("head", head, Head)
    if head == "reset":
        return 0
    shapes = [submodel.template(one, input_shape) for one in models]
    return max(submodel.head_size(one, shapes[-1]) for one in shapes)


def first(
    context: Context, model: nn.Module, whole: submodel.Variables, key: jax.Array
) -> jax.Array:
    """The head that a client of this network starts with, `[H]`, padded if it is kept.

    Args:
      context: the networks.
      model: the client's.
      whole: variables, or shapes, of the whole network.
      key: the client's own.

    Returns:
      The head as one vector.
    """
    image = jnp.zeros((1, *context.input_shape))
    mine = dict(model.init(key, image, False))
    kept = kept_size(context.models, context.input_shape, context.config.head)
    return submodel.pack_head(mine, whole, kept or submodel.head_size(mine, whole))


def of_clients(
    context: Context, state: FedLPQState, client_id: jax.Array, key: jax.Array
) -> jax.Array:
    """Heads of a cohort, `[K, H]`; or the keys `[K]` that they are drawn from.

    Args:
      context: whether they are kept.
      state: of the run.
      client_id: `[K]`.
      key: of the round, which says how keys are made.

    Returns:
      Either of them, to be given to `of_client` one by one.
    """
    if state.head_key is None:
        return state.head[client_id]
    kind = jax.random.key_impl(key)
    own = jax.random.wrap_key_data(state.head_key, impl=kind)
    return client_keys(own, client_id, HEAD)


def of_client(
    context: Context, model: nn.Module, whole: submodel.Variables, given: jax.Array
) -> jax.Array:
    """The head that a client's round starts with, of what `of_clients` gives for it."""
    if context.config.head == "kept":
        return given
    return first(context, model, whole, given)
