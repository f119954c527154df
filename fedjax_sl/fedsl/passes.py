"""The passes of a step through the whole network, and over the cuts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Examples
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import Each
from fedjax_sl.federation.second_cut import SecondCut
from fedjax_sl.federation.split_grad import SplitGrad, split_grad
from fedjax_sl.fedsl.cuts import cuts_with_dropout
from fedjax_sl.fedsl.second_cut import second_cut
from fedjax_sl.fedsl.state import Context, batches
from fedjax_sl.fedsl.step_parts import Group
from fedjax_sl.models.split import Variables


Watch = Callable[[Callable, Callable], tuple[Callable, Callable]]
"""What is done to the tensors at a cut forwards, and backwards -> the same."""


def _as_it_is(forward: Callable, backward: Callable) -> tuple[Callable, Callable]:
    return forward, backward


def _watched_cut(cut: Cut, watched: Watch) -> Cut:
    up, down = watched(cut.up, cut.down)
    return cut._replace(up=up, down=down)


def both_passes(
    context: Context,
    each: Each,
    server: Variables,
    examples: Examples,
    *,
    group: Group,
    key: jax.Array,
    present: jax.Array,
    watched: Watch = _as_it_is,
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
      watched: adds to the auxiliary data of each cut.

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
    second = second_cut(
        config,
        group.per_client,
        group.client_id,
        key,
        real=group.minibatch.weight > 0,
    )
    return split_grad(
        context.model,
        {**group.client, "params": pruned},
        server,
        batches(config, key, examples, group.minibatch, client_id=group.client_id),
        weights=weights,
        cuts=[_watched_cut(cut, watched) for cut in cuts],
        second=SecondCut(*watched(*second)),
        each=each,
    )
