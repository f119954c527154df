"""Private heads of sub-models: kept from round to round, or redrawn in each."""

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
    """Returns H, the entries kept for each client: the size of the largest head.

    Args:
      models: of rising complexity, the whole network last.
      input_shape: `(H, W, Ch)` of one example.
      head: whether heads are kept or reset after a round.

    Returns:
      Entries; 0 if heads are reset, or if all train the whole network.
    """
    check_choice("head", head, Head)
    if head == "reset":
        return 0
    # Complexities follow from a key that may be traced: one shape fits every client.
    shapes = [submodel.template(model, input_shape) for model in models]
    return max(submodel.head_size(shape, shapes[-1]) for shape in shapes)


def first(
    context: Context, model: nn.Module, whole: submodel.Variables, key: jax.Array
) -> jax.Array:
    """Draws the first head of a client of this network, `[H]`, padded if it is kept.

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
    # Heads that are reset are rows of no common array, and need no padding.
    return submodel.pack_head(mine, whole, kept or submodel.head_size(mine, whole))


def of_clients(
    context: Context, state: FedLPQState, client_id: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns the heads of a cohort, `[K, H]`; or the keys `[K]` to draw them from.

    Args:
      context: whether they are kept.
      state: of the run.
      client_id: `[K]`.
      key: of the round, which tells the implementation of keys.

    Returns:
      Heads or keys, as `of_client` takes them.
    """
    if state.head_key is None:
        return state.head[client_id]
    # The state holds raw key data, which does not name its implementation.
    kind = jax.random.key_impl(key)
    # The same key in every round, and so the same head, as in the authors' code.
    own = jax.random.wrap_key_data(state.head_key, impl=kind)
    return client_keys(own, client_id, HEAD)


def of_client(
    context: Context, model: nn.Module, whole: submodel.Variables, given: jax.Array
) -> jax.Array:
    """Returns the head that a client starts a round with, from `of_clients`."""
    if context.config.head == "kept":
        return given
    # Drawn by each client for itself: an array of all heads never exists.
    return first(context, model, whole, given)
