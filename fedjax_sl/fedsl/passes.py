"""The passes of a step through the whole network, and over the cuts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Examples
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.split_grad import SplitGrad, split_grad
from fedjax_sl.fedsl.cuts import cuts_with_dropout
from fedjax_sl.fedsl.state import Context, batches
from fedjax_sl.fedsl.step_parts import Group
from fedjax_sl.models.split import Variables


def _as_it_is(cut: Cut) -> Cut:
    return cut


def both_passes(
    context: Context,
    each: Each,
    server: Variables,
    examples: Examples,
    *,
    group: Group,
    key: jax.Array,
    present: jax.Array,
    watched: Callable[[Cut], Cut] = _as_it_is,
) -> SplitGrad:
    """Runs steps 2 to 4, 6 and 7: one backward pass serves the server and the clients.

    Args:
      context: model and configuration.
      each: how the clients' halves are mapped.
      server: its variables.
      examples: all training examples.
      group: the clients.
      key: of the round.
      present: `[G]` bool.
      watched: `cut -> cut` that adds to the auxiliary data of a cut.

    Returns:
      A `SplitGrad`.
    """
    # Outside the gradient: a single weight that is pruned still has one, for its score.
    pruned = each(apply_mask)(group.client["params"], group.mask)
    weights, config = jnp.where(present, group.weights, 0.0), context.config
    cuts = cuts_with_dropout(
        config,
        context.model,
        group.per_client,
        group.client_id,
        key=key,
        masks=group.mask,
        real=group.minibatch.weight > 0,
        weights=weights,
        each=each,
    )
    return split_grad(
        context.model,
        {**group.client, "params": pruned},
        server,
        batches(config, key, examples, group.minibatch, client_id=group.client_id),
        weights=weights,
        cuts=[watched(cut) for cut in cuts],
        each=each,
    )
